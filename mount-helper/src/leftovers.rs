// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is left in a work directory: by the kernel, which takes it up again, or by somebody.
//!
//! Invariant: nothing counts as the kernel's but the forms that it makes itself, as it deletes all
//! that is in `work` when it mounts; symlinks are not followed.

use crate::directory::printable;
use crate::fault::{Fault, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directories that the kernel makes in a work directory, and takes up again. `index` is of
/// overlays with other options than ours: it must be empty.
pub(crate) const OF_KERNEL: [&str; 2] = ["work", "index"];

/// What was found in a work directory that no view uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A temporary of the kernel, which it was stopped before removing; relative to the directory.
    OfKernel(PathBuf),
    /// Anything else: it is somebody's, and the kernel may delete it. Relative to the directory.
    Foreign(PathBuf),
}

/// Returns the first thing that is left in the work directory at `path`, of somebody if there is
/// any; `None` if there is nothing, or no such directory.
pub fn leftover(path: &Path) -> Result<Option<Leftover>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(work) => inside(work, path),
        Err(Errno::NOENT) => Ok(None),
        Err(why) => Err(unreadable(path, why)),
    }
}

/// As [`leftover`], for a directory that is open; `path` is for messages.
pub(crate) fn inside(work: OwnedFd, path: &Path) -> Result<Option<Leftover>> {
    let mut search = Search {
        top: path,
        temporary: None,
    };
    let foreign = search.look(work, Path::new(""), Place::Top)?;
    Ok(foreign
        .map(Leftover::Foreign)
        .or(search.temporary.map(Leftover::OfKernel)))
}

/// Which of the kernel's directories is looked into.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The work directory itself.
    Top,
    /// `work`, with the kernel's temporaries.
    Work,
    /// A temporary in `work`: a directory on its way in or out, with whiteouts at most.
    Temporary,
    /// `index`.
    Index,
}

struct Search<'a> {
    top: &'a Path,
    /// The first temporary of the kernel that was met.
    temporary: Option<PathBuf>,
}

impl Search<'_> {
    /// Returns the first entry of `directory`, or below, that is not of the kernel.
    fn look(&mut self, directory: OwnedFd, path: &Path, place: Place) -> Result<Option<PathBuf>> {
        let failed = |path: &Path, why| unreadable(&self.top.join(path), why);
        let mut inner = Vec::new();
        for entry in Dir::read_from(&directory).map_err(|why| failed(path, why))? {
            let entry = entry.map_err(|why| failed(path, why))?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|why| failed(&path, why))?,
            };
            match judge(place, name.to_bytes(), &stat) {
                Judgement::Foreign => return Ok(Some(path)),
                Judgement::Fine => {}
                Judgement::LookInto(place) => inner.push((name.to_owned(), path.clone(), place)),
            }
            if matches!(place, Place::Work) {
                self.temporary.get_or_insert(path);
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (name, path, place) in inner {
            let opened = openat(&directory, name, flags, Mode::empty())
                .map_err(|why| unreadable(&self.top.join(&path), why))?;
            if let Some(foreign) = self.look(opened, &path, place)? {
                return Ok(Some(foreign));
            }
        }
        Ok(None)
    }
}

/// What an entry is.
enum Judgement {
    Foreign,
    Fine,
    LookInto(Place),
}

fn judge(place: Place, name: &[u8], stat: &Stat) -> Judgement {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match place {
        Place::Top if directory && name == b"work" => Judgement::LookInto(Place::Work),
        Place::Top if directory && name == b"index" => Judgement::LookInto(Place::Index),
        Place::Work if is_temporary(name) && directory => Judgement::LookInto(Place::Temporary),
        Place::Work if is_temporary(name) => Judgement::Fine,
        Place::Temporary if is_whiteout(stat) => Judgement::Fine,
        _ => Judgement::Foreign,
    }
}

/// The kernel numbers its temporaries: `#1f`.
fn is_temporary(name: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(name, [b'#', number @ ..] if !number.is_empty() && number.iter().all(digit))
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn unreadable(path: &Path, why: Errno) -> Fault {
    let fault = Fault::kernel(format!("read work directory {}", printable(path)), why);
    match why {
        Errno::ACCESS => fault.hint("it is of another user's mount: name another with workdir="),
        _ => fault,
    }
}
