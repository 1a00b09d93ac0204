// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making new names.
//!
//! Invariant: a new object never shadows a name silently: both layers are asked first, and a
//! name that is taken is ESTALE, on which the kernel looks again. New objects are made in place,
//! but for those of `staging`.
//! What fails leaves the name as it was: a whiteout that had to go comes back.

use super::directory::UpperDir;
use super::lookup::{Entry, Survey};
use super::node::{Found, Merging, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Kind, LayerId, NewKind, Owner};
use crate::merge;
use std::os::fd::{AsFd, BorrowedFd};

impl MergedFs {
    /// Makes and opens a regular file.
    pub fn create(&self, parent: NodeId, name: &[u8], mode: u32, owner: Owner) -> Outcome<Entry> {
        let (dir, survey) = self.free_name(parent, name)?;
        let file = self.uncovered(&dir, name, &survey, || {
            self.room
                .wait_for(|| self.upper.create(dir.fd(), name, mode, owner))
        })?;
        let entry = self.enter_new(parent, name, file.as_fd())?;
        self.keep_created(entry.node, file);
        Ok(entry)
    }

    /// Makes a directory, a symbolic link or a special file.
    pub fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        kind: NewKind<'_>,
        mode: u32,
        owner: Owner,
    ) -> Outcome<Entry> {
        let (dir, survey) = self.free_name(parent, name)?;
        if kind.is_zero_device() && survey.lower_present() {
            // It would hide the lower name instead of being shown.
            return Err(Errno::PERM);
        }
        if matches!(kind, NewKind::Directory) && survey.lower_has_dir() {
            let made = self.make_opaque(&dir, name, &survey, mode, owner)?;
            return self.enter_new(parent, name, made.as_fd());
        }
        let made = self.uncovered(&dir, name, &survey, || {
            self.room
                .wait_for(|| self.upper.make(dir.fd(), name, kind, mode, owner))
        })?;
        self.enter_new(parent, name, made.as_fd())
    }

    /// Gives the object of `id` one more name.
    pub fn link(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Outcome<Entry> {
        let object = self.surviving(id, || {
            let source = self.locate(id)?;
            match source.layer {
                LayerId::Lower => Err(Errno::XDEV),
                LayerId::Upper => self.object_of(&source),
            }
        })?;
        let (dir, survey) = self.free_name(parent, name)?;
        if survey.lower_present() && self.upper.stat(object.as_fd())?.is_zero_device() {
            // It would hide the lower name instead of being shown.
            return Err(Errno::XDEV);
        }
        let _moving = self.moving.read();
        self.uncovered(&dir, name, &survey, || {
            self.upper.link(object.as_fd(), dir.fd(), name)
        })?;
        self.enter_new(parent, name, object.as_fd())
    }

    /// Returns the upper side of `parent` if `name` is free in it.
    fn free_name(&self, parent: NodeId, name: &[u8]) -> Outcome<(UpperDir, Survey)> {
        let (sides, survey) = self.surveyed(parent, name)?;
        merge::may_make(sides.upper.is_some(), survey.shown).map_err(super::directory::errno)?;
        Ok((UpperDir::of(sides)?, survey))
    }

    /// Runs `make` after taking away a whiteout that stands where the new object is to be. If it
    /// fails the whiteout comes back: the lower name was hidden, and stays so.
    pub(super) fn uncovered<T>(
        &self,
        dir: &UpperDir,
        name: &[u8],
        survey: &Survey,
        make: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<T> {
        if !survey.whiteout() {
            return make().map_err(taken_is_stale);
        }
        self.upper.unlink(dir.fd(), name)?;
        make().map_err(|errno| {
            match self.upper.restore_whiteout(dir.fd(), name) {
                // Somebody was faster, and what he made hides the lower as well.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(why) => log::warn!("put whiteout {} back: {why}", name.escape_ascii()),
            }
            taken_is_stale(errno)
        })
    }

    fn enter_new(&self, parent: NodeId, name: &[u8], object: BorrowedFd<'_>) -> Outcome<Entry> {
        self.replaced(parent, name);
        let stat = self.upper.stat(object)?;
        let settled = parent == NodeId::ROOT || self.table.with(parent, |node| node.settled)?;
        let merging = if stat.kind == Kind::Directory {
            Merging::Opaque
        } else {
            Merging::Unread
        };
        let found = Found {
            stat,
            layer: LayerId::Upper,
            lower_dir: None,
            merging,
            settled,
        };
        let entry = self.enter(parent, name, &found);
        if parent == NodeId::ROOT {
            // Only now can the event be told from one of somebody else's.
            self.hot.made(name);
        }
        entry
    }
}

/// The upper has the name although the probe did not see it: somebody was faster.
pub(super) fn taken_is_stale(errno: Errno) -> Errno {
    if errno == Errno::EXIST {
        Errno::STALE
    } else {
        errno
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_cannot_be_made_leaves_the_whiteout() {
        let scratch = tempfile::tempdir().unwrap();
        let layer = |name: &str| scratch.path().join(name);
        for path in ["lower/d/hidden", "upper"] {
            std::fs::create_dir_all(layer(path)).unwrap();
        }
        let options = Options {
            lower: layer("lower"),
            upper: layer("upper"),
            xattr: false,
            lower_ttl: Duration::from_secs(1),
            watch: true,
            repair: false,
            read_only: false,
        };
        let fs = MergedFs::open(&options).unwrap();
        fs.upper
            .restore_whiteout(fs.upper.root().as_fd(), b"d")
            .unwrap();
        let whiteout = || fs.upper.probe(fs.upper.root().as_fd(), b"d").unwrap();
        assert!(whiteout().is_some_and(|stat| stat.is_zero_device()));
        let owner = Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        // No system makes a directory by mknod.
        let kind = NewKind::Node {
            mode: libc::S_IFDIR | 0o700,
            rdev: 0,
        };
        let made = fs.make(NodeId::ROOT, b"d", kind, 0o700, owner);
        assert_eq!(made.err(), Some(Errno::PERM));
        assert!(whiteout().is_some_and(|stat| stat.is_zero_device()));
        let made = fs.make(NodeId::ROOT, b"d", NewKind::Symlink(b"x"), 0o777, owner);
        assert_eq!(made.unwrap().attr.kind, Kind::Symlink);
    }
}
