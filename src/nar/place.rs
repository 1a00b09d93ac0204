// SPDX-License-Identifier: MIT OR Apache-2.0
//! One name in an open directory, and the walk over everything below it.
//!
//! Invariant: every step is a directory descriptor and one name, and no symbolic link is followed;
//! however deep a tree is, no more than [`OPEN`] of its directories are open.

use super::reader::is_name;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

/// Directories that one walk keeps open.
const OPEN: usize = 64;

/// Bytes asked of one `getdents64`.
const LISTING_BYTES: usize = 32 * 1024;

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    within: &'a Path,
}

impl<'a> Place<'a> {
    /// Takes `name` in the directory `dir`, which messages call `within`; the descriptor may be an
    /// `O_PATH` one.
    pub fn new(dir: BorrowedFd<'a>, name: &'a [u8], within: &'a Path) -> Result<Place<'a>> {
        if is_name(name) {
            return Ok(Place { dir, name, within });
        }
        let what = format!("use a name in {}", within.display());
        let why = format!("'{}' is not the name of one entry", name.escape_ascii());
        Err(Error::usage(what, why))
    }

    /// Returns its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.within.join(OsStr::from_bytes(self.name))
    }
}

/// One entry that a walk has come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'w> {
    pub(super) dir: BorrowedFd<'w>,
    pub(super) name: &'w [u8],
    /// What the listing says it is.
    listed: FileType,
    place: &'w Place<'w>,
    above: &'w [Level],
}

/// Whether a walk goes on below an entry.
pub(super) enum Met {
    /// It is no directory, or is left alone.
    Done,
    /// This is the directory, open for reading.
    Enter(OwnedFd),
}

/// Who looks at what a walk comes to.
pub(super) trait Visit {
    /// Looks at one entry.
    fn meet(&mut self, at: &At<'_>) -> Result<Met>;
    /// Ends a directory when everything below it was met.
    fn leave(&mut self, at: &At<'_>, dir: OwnedFd) -> Result<()>;
}

/// One directory on the way down.
#[derive(Debug)]
pub(super) struct Level {
    name: Box<[u8]>,
    /// `None` while too many others are open.
    dir: Option<OwnedFd>,
    identity: (u64, u64),
    names: IntoIter<(Box<[u8]>, FileType)>,
}

/// Meets `place` and everything below it, names in bytewise order.
pub(super) fn walk(place: &Place<'_>, visit: &mut impl Visit) -> Result<()> {
    let mut levels = Vec::new();
    step(
        place,
        &mut levels,
        place.name.into(),
        FileType::Unknown,
        visit,
    )?;
    while let Some(level) = levels.last_mut() {
        match level.names.next() {
            Some((name, listed)) => step(place, &mut levels, name, listed, visit)?,
            None => up(place, &mut levels, visit)?,
        }
    }
    Ok(())
}

fn step(
    place: &Place<'_>,
    levels: &mut Vec<Level>,
    name: Box<[u8]>,
    listed: FileType,
    visit: &mut impl Visit,
) -> Result<()> {
    let at = At::new(place, levels, &name, listed);
    let Met::Enter(dir) = visit.meet(&at)? else {
        return Ok(());
    };
    let opened = identity_of(&dir).and_then(|identity| Ok((identity, list(dir.as_fd())?)));
    let (identity, names) = opened.map_err(|errno| at.failed("read directory", errno))?;
    levels.push(Level {
        name,
        dir: Some(dir),
        identity,
        names: names.into_iter(),
    });
    if let Some(far) = levels.len().checked_sub(OPEN + 1) {
        levels[far].dir = None;
    }
    Ok(())
}

/// Leaves the deepest directory.
fn up(place: &Place<'_>, levels: &mut Vec<Level>, visit: &mut impl Visit) -> Result<()> {
    let Some(Level {
        name,
        dir: Some(dir),
        ..
    }) = levels.pop()
    else {
        return Ok(());
    };
    if let Some(level) = levels.last_mut()
        && level.dir.is_none()
    {
        let above = above(&dir, level.identity);
        let at = At::new(place, levels, &name, FileType::Directory);
        let above = above.map_err(|errno| at.failed("go back from", errno))?;
        if let Some(level) = levels.last_mut() {
            level.dir = Some(above);
        }
    }
    let at = At::new(place, levels, &name, FileType::Directory);
    visit.leave(&at, dir)
}

/// Opens the directory above `dir`, which must be the one that it was.
fn above(dir: &OwnedFd, identity: (u64, u64)) -> rustix::io::Result<OwnedFd> {
    let above = rustix::fs::openat(dir, c"..", directory(), Mode::empty())?;
    if identity_of(&above)? == identity {
        Ok(above)
    } else {
        // It was moved meanwhile.
        Err(Errno::STALE)
    }
}

fn identity_of(dir: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// How directories are opened to be read.
fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Lists a directory in bytewise order.
fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Box<[u8]>, FileType)>> {
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names: Vec<(Box<[u8]>, FileType)> = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.into(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

impl<'w> At<'w> {
    fn new(place: &'w Place<'w>, above: &'w [Level], name: &'w [u8], listed: FileType) -> At<'w> {
        // The directory of the deepest level is open, whatever is done to those above it.
        let dir = above.last().and_then(|level| level.dir.as_ref());
        At {
            dir: dir.map_or(place.dir, AsFd::as_fd),
            name,
            listed,
            place,
            above,
        }
    }

    /// Whether this is the place itself.
    pub(super) fn is_top(&self) -> bool {
        self.above.is_empty()
    }

    /// Returns its path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        let mut path = self.place.within.to_owned();
        let names = self.above.iter().map(|level| &*level.name);
        path.extend(names.chain([self.name]).map(OsStr::from_bytes));
        path
    }

    /// Describes a failure here.
    pub(super) fn failed(&self, verb: &str, why: impl std::fmt::Display) -> Error {
        Error::on(verb, self.path(), why)
    }

    /// Returns what it is: as listed, if the filesystem tells it there.
    pub(super) fn kind(&self) -> Result<FileType> {
        match self.listed {
            FileType::Unknown => Ok(kind_of(&self.stat()?)),
            listed => Ok(listed),
        }
    }

    /// Returns its attributes.
    pub(super) fn stat(&self) -> Result<Stat> {
        self.try_stat().map_err(|errno| self.failed("stat", errno))
    }

    /// Returns its attributes, or the errno.
    pub(super) fn try_stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Opens it for reading.
    pub(super) fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // Never waits for the other end of a pipe that has come in place of a file.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::openat(self.dir, self.name, flags, Mode::empty())
    }

    /// Opens it as a directory, unless something is mounted there (EXDEV), which is no part of the
    /// tree.
    pub(super) fn open_own_dir(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = directory() | flags;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(self.dir, self.name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => rustix::fs::openat(self.dir, self.name, flags, Mode::empty()),
            other => other,
        }
    }
}

/// Returns the type of an object.
pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The words for what cannot be in a store object.
pub(super) fn unsupported(kind: FileType) -> String {
    let what = match kind {
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "of an unknown type",
    };
    format!("it is {what}; store objects hold files, directories and symbolic links only")
}

/// The path by which the system reaches an object that is held by an `O_PATH` descriptor.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
