// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing files of the upper so that the merged view is true afterwards and no whiteout is left.
//!
//! What the lower has under the same name too goes from the upper directly: through the view, OverlayFS
//! would hide the lower's. All else goes through the view, so that it knows. Invariant: the lower's
//! objects show again at once and whole, never mixed with what is half removed.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::nar::{Freed, Place, remove_tree};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How the names begin under which duplicates are removed: collectors take them for garbage.
const SET_ASIDE: &str = "tmp-overstore";

/// One directory in three places: at the top, or `.links`.
#[derive(Debug)]
pub(in crate::operations) struct Sides {
    merged: OwnedFd,
    upper: OwnedFd,
    /// `None` if the lower has no such directory.
    lower: Option<OwnedFd>,
    merged_path: PathBuf,
    upper_path: PathBuf,
    /// Whether something was removed that the view was not told of.
    behind: bool,
}

impl Sides {
    /// Opens the top directories; or the directories `below` them, `None` if the upper has none.
    pub(in crate::operations) fn open(layout: &Layout, below: &str) -> Result<Option<Sides>> {
        let [merged_path, upper_path, lower_path] =
            [&layout.merged, &layout.upper, &layout.lower].map(|path| join(path, below));
        let Some(upper) = open(&upper_path)? else {
            return Ok(None);
        };
        let Some(merged) = open(&merged_path)? else {
            // A view that is about to show it, or the user's own directory.
            return Err(
                Error::on("open", merged_path, "the upper has it, the view has not")
                    .hint("overstore sync"),
            );
        };
        let lower = open(&lower_path)?;
        Ok(Some(Sides {
            merged,
            upper,
            lower,
            merged_path,
            upper_path,
            behind: false,
        }))
    }

    /// Opens the top directories, which must be there.
    pub(in crate::operations) fn of_top(layout: &Layout) -> Result<Sides> {
        Sides::open(layout, "")?
            .ok_or_else(|| Error::on("open upper directory", &layout.upper, "it is gone"))
    }

    /// Whether the view was not told of something.
    pub(in crate::operations) fn is_behind(&self) -> bool {
        self.behind
    }

    pub(in crate::operations) fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    pub(in crate::operations) fn merged(&self) -> BorrowedFd<'_> {
        self.merged.as_fd()
    }

    /// Refuses a lower that cannot be told from the view, which is mounted over it.
    pub(in crate::operations) fn refuse_covered(&self) -> Result<()> {
        let identity =
            |dir: &OwnedFd| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino));
        let Some(lower) = &self.lower else {
            return Ok(());
        };
        match (identity(lower), identity(&self.merged)) {
            (Ok(lower), Ok(merged)) if lower != merged => Ok(()),
            (Err(errno), _) | (_, Err(errno)) => Err(self.failed("stat", b"", errno)),
            _ => {
                let why = "the view covers the lower store directory";
                Err(
                    Error::on("tell apart the layers of", &self.merged_path, why)
                        .hint("name the lower by another path, such as a bind mount of it"),
                )
            }
        }
    }

    /// Returns where `name` is in the view.
    pub(in crate::operations) fn merged_path(&self, name: &[u8]) -> PathBuf {
        self.merged_path.join(OsStr::from_bytes(name))
    }

    /// Returns what the upper has under `name`.
    pub(in crate::operations) fn stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        stat(self.upper.as_fd(), name).map_err(|errno| self.failed("stat", name, errno))
    }

    /// Whether the lower has anything under `name`, valid or not.
    pub(in crate::operations) fn lower_has(&self, name: &[u8]) -> Result<bool> {
        let Some(lower) = &self.lower else {
            return Ok(false);
        };
        let found = stat(lower.as_fd(), name);
        let found = found.map_err(|errno| {
            let why = std::io::Error::from(errno);
            Error::on("look in the lower for", OsStr::from_bytes(name), why)
        })?;
        Ok(found.is_some())
    }

    /// Removes `name` from the upper, and tells what that freed.
    pub(in crate::operations) fn remove(&mut self, name: &[u8]) -> Result<Freed> {
        let Some(found) = self.stat(name)? else {
            return Ok(Freed::default());
        };
        if is_whiteout(&found) || self.lower_has(name)? {
            return self.remove_behind(name, &found);
        }
        let freed = remove_tree(&Place::new(self.merged.as_fd(), name, &self.merged_path)?)?;
        // The view may not know of it, or the lower may have got one meanwhile and OverlayFS put a
        // whiteout in its place.
        let Some(left) = self.stat(name)? else {
            return Ok(freed);
        };
        let mut freed = freed;
        freed += self.remove_behind(name, &left)?;
        Ok(freed)
    }

    /// Removes `name` in the upper. A directory goes in one step first, or its rest would be merged
    /// with the lower's, or hide it.
    fn remove_behind(&mut self, name: &[u8], found: &Stat) -> Result<Freed> {
        self.behind = true;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return remove_tree(&Place::new(self.upper.as_fd(), name, &self.upper_path)?);
        }
        let aside = self.set_aside(name)?;
        let place = Place::new(self.upper.as_fd(), aside.as_bytes(), &self.upper_path)?;
        remove_tree(&place)
    }

    fn set_aside(&self, name: &[u8]) -> Result<String> {
        let pid = std::process::id();
        for number in 0..=u32::MAX {
            let aside = format!("{SET_ASIDE}-{pid}-{number}");
            match rename(self.upper.as_fd(), name, aside.as_bytes()) {
                Ok(()) => return Ok(aside),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed("set aside", name, errno)),
            }
        }
        Err(self.failed("set aside", name, Errno::EXIST))
    }

    fn failed(&self, verb: &str, name: &[u8], errno: Errno) -> Error {
        let path = self.upper_path.join(OsStr::from_bytes(name));
        Error::on(verb, path, std::io::Error::from(errno))
    }
}

/// Whether an object of the upper only hides one of the lower.
pub(in crate::operations) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn join(path: &Path, below: &str) -> PathBuf {
    match below {
        "" => path.to_owned(),
        below => path.join(below),
    }
}

fn open(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::on("open", path, std::io::Error::from(errno))),
    }
}

/// Renames without replacing anything, where the filesystem can.
fn rename(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> rustix::io::Result<()> {
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(dir, from, dir, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) if stat(dir, to)?.is_none() => {
            rustix::fs::renameat(dir, from, dir, to)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST),
        done => done,
    }
}

fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
