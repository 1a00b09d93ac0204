// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing a tree.
//!
//! Invariant: only what is below the place goes: no symbolic link is followed, and where something
//! is mounted it stops. What is told to be freed was freed; and a forecast tells the same as the removal.

use super::place::{At, Met, Place, Visit, kind_of, proc_path, walk};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};

/// What a removal gave back: the sizes (`st_size`) of what is no directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Of everything whose last link was removed.
    pub bytes: u64,
    /// Of files that have exactly one link left. In an optimised store that is the one in
    /// `.links`, and whoever removes it frees these bytes; Nix counts them at once.
    pub linked_once: u64,
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Freed) {
        self.bytes += other.bytes;
        self.linked_once += other.linked_once;
    }
}

/// Removes the tree at `place`, and tells what that freed; nothing if there is no such name.
/// Directories that their owner may not write are made writable first.
pub fn remove_tree(place: &Place<'_>) -> Result<Freed> {
    let mut removal = Removal::default();
    walk(place, &mut removal)?;
    Ok(removal.freed)
}

#[derive(Debug, Default)]
struct Removal {
    freed: Freed,
    /// What is in [`Freed::linked_once`]: the link that is left may be in the tree as well.
    once: HashSet<(u64, u64)>,
}

impl Removal {
    /// Counts one name of a file that has so many.
    fn count(&mut self, stat: &Stat, names: u64) {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let key = (stat.st_dev, stat.st_ino);
        match names {
            1 => {
                self.freed.bytes += size;
                if self.once.remove(&key) {
                    self.freed.linked_once -= size;
                }
            }
            2 => {
                self.freed.linked_once += size;
                self.once.insert(key);
            }
            _ => {}
        }
    }
}

impl Visit for Removal {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        let stat = match at.try_stat() {
            Err(Errno::NOENT) => return Ok(Met::Done),
            stat => stat.map_err(|errno| at.failed("remove", errno))?,
        };
        if kind_of(&stat) == FileType::Directory {
            return open(at, stat.st_mode).map(Met::Enter);
        }
        match rustix::fs::unlinkat(at.dir, at.name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Met::Done),
            Err(errno) => return Err(refused(at, errno)),
        }
        self.count(&stat, stat.st_nlink);
        Ok(Met::Done)
    }

    fn leave(&mut self, at: &At<'_>, dir: OwnedFd) -> Result<()> {
        drop(dir);
        match rustix::fs::unlinkat(at.dir, at.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(refused(at, errno)),
        }
    }
}

/// What removals would give back, one after the other, without any effect.
#[derive(Debug, Default)]
pub struct Forecast {
    /// How many names of a file would be gone.
    gone: HashMap<(u64, u64), u64>,
}

impl Forecast {
    /// Tells what the removal of the tree at `place` would give back after the ones before it.
    pub fn remove_tree(&mut self, place: &Place<'_>) -> Result<Freed> {
        let mut counting = Counting {
            gone: &mut self.gone,
            removal: Removal::default(),
        };
        walk(place, &mut counting)?;
        Ok(counting.removal.freed)
    }

    /// Returns how many names the file would have left.
    pub fn names(&self, stat: &Stat) -> u64 {
        names_left(&self.gone, stat)
    }
}

fn names_left(gone: &HashMap<(u64, u64), u64>, stat: &Stat) -> u64 {
    let gone = gone.get(&(stat.st_dev, stat.st_ino)).copied();
    stat.st_nlink.saturating_sub(gone.unwrap_or(0))
}

#[derive(Debug)]
struct Counting<'f> {
    gone: &'f mut HashMap<(u64, u64), u64>,
    removal: Removal,
}

impl Visit for Counting<'_> {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        let failed = |errno| at.failed("look at", errno);
        let stat = match at.try_stat() {
            Err(Errno::NOENT) => return Ok(Met::Done),
            stat => stat.map_err(failed)?,
        };
        if kind_of(&stat) == FileType::Directory {
            let dir = at.open_own_dir(OFlags::empty());
            return dir.map(Met::Enter).map_err(failed);
        }
        self.removal.count(&stat, names_left(self.gone, &stat));
        if stat.st_nlink > 1 {
            *self.gone.entry((stat.st_dev, stat.st_ino)).or_default() += 1;
        }
        Ok(Met::Done)
    }

    fn leave(&mut self, _: &At<'_>, _: OwnedFd) -> Result<()> {
        Ok(())
    }
}

/// Opens a directory whose entries can be removed.
fn open(at: &At<'_>, mode: u32) -> Result<OwnedFd> {
    let opened = if mode & 0o700 == 0o700 {
        at.open_own_dir(OFlags::empty())
    } else {
        widen(at, mode).and_then(|()| at.open_own_dir(OFlags::empty()))
    };
    opened.map_err(|errno| refused(at, errno))
}

fn widen(at: &At<'_>, mode: u32) -> rustix::io::Result<()> {
    let dir = at.open_own_dir(OFlags::PATH)?;
    let mode = Mode::from_raw_mode(mode & 0o7777 | 0o700);
    let path = proc_path(dir.as_fd());
    rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
}

fn refused(at: &At<'_>, errno: Errno) -> Error {
    let error = at.failed("remove", errno);
    match errno {
        Errno::XDEV | Errno::BUSY => error.hint("something is mounted there: unmount it first"),
        Errno::NOTEMPTY => error.hint("somebody puts new files into it"),
        _ => error,
    }
}
