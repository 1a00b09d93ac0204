// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of one object, seen in the upper and in the view at once.
//!
//! Invariant: no symbolic link is followed.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Deeper directories are left alone: each level keeps two descriptors.
const DEEPEST: usize = 200;

/// One directory in both.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) upper: OwnedFd,
    pub(super) merged: OwnedFd,
}

impl Pair {
    fn open(
        upper: BorrowedFd<'_>,
        merged: BorrowedFd<'_>,
        name: &[u8],
    ) -> rustix::io::Result<Pair> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Pair {
            upper: rustix::fs::openat(upper, name, flags, Mode::empty())?,
            merged: rustix::fs::openat(merged, name, flags, Mode::empty())?,
        })
    }

    fn names(&self) -> rustix::io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.upper)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A regular file of an object.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) upper: BorrowedFd<'a>,
    pub(super) merged: BorrowedFd<'a>,
    /// Whether it is the object itself.
    pub(super) is_top: bool,
    pub(super) name: &'a [u8],
    pub(super) stat: Stat,
}

/// Calls `take` with every regular file of the object `name`. What vanishes meanwhile is passed over.
pub(super) fn each(
    upper: BorrowedFd<'_>,
    merged: BorrowedFd<'_>,
    name: &[u8],
    take: &mut dyn FnMut(&File<'_>) -> Result<()>,
) -> Result<()> {
    let failed = |errno: Errno| {
        let what = format!("look through {}", name.escape_ascii());
        Error::environment(what, std::io::Error::from(errno))
    };
    let mut levels: Vec<(Pair, Vec<Vec<u8>>)> = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        let Some(name) = next.take() else {
            let Some((_, names)) = levels.last_mut() else {
                return Ok(());
            };
            next = names.pop();
            if next.is_none() {
                levels.pop();
            }
            continue;
        };
        let (dir, view) = match levels.last() {
            Some((pair, _)) => (pair.upper.as_fd(), pair.merged.as_fd()),
            None => (upper, merged),
        };
        let stat = match rustix::fs::statat(dir, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(failed)?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => take(&File {
                upper: dir,
                merged: view,
                is_top: levels.is_empty(),
                name: &name,
                stat,
            })?,
            FileType::Directory if levels.len() < DEEPEST => {
                let pair = Pair::open(dir, view, &name).map_err(failed)?;
                let names = pair.names().map_err(failed)?;
                levels.push((pair, names));
            }
            _ => {}
        }
    }
}
