// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layer that is never modified.
//!
//! Invariant: there is no operation that changes anything. The directory is opened again by its
//! path only when its filesystem has stopped answering, and only if the same filesystem stands
//! there: an empty mountpoint is not a lower without objects.

use super::own_mount::{Access, apart};
use super::tree::{Tree, open_root};
use super::{Devices, Errno, Result};
use crate::error::{Error, Result as Outcome};
use crate::sys::mountinfo;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstatvfs, statx};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The lower store directory: a [`Tree`] and the way back to it.
#[derive(Debug)]
pub struct Lower {
    tree: Tree,
    path: PathBuf,
    standing: Option<Standing>,
    renumbers: AtomicBool,
    renewing: Mutex<()>,
}

impl Deref for Lower {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl Lower {
    /// Opens the lower store directory.
    pub fn open(path: &Path, devices: Arc<Devices>) -> Outcome<Lower> {
        let failed = |errno| Error::on("examine lower store directory", path, errno);
        let root = open_root(path, "lower store directory")?;
        let standing = Standing::of(root.as_fd());
        if standing.is_none() {
            log::warn!("the list of mounts cannot be read: a lower that dies is not opened again");
        }
        let tree = Tree::new(apart(root, Access::Read), devices).map_err(failed)?;
        let renumbers = tree.filesystem().renumbers();
        Ok(Lower {
            tree,
            path: path.to_owned(),
            standing,
            renumbers: AtomicBool::new(renumbers),
            renewing: Mutex::new(()),
        })
    }

    /// Whether an object may come to have another number while it stays the same: the filesystem
    /// is of that kind, or was mounted again.
    pub fn renumbers(&self) -> bool {
        self.renumbers.load(Ordering::Relaxed)
    }

    /// Whether the directory is one that can have entries: ESTALE if it was removed.
    fn answers(&self) -> Result<()> {
        let root = self.root();
        fstatvfs(&root)?;
        match self.stat(root.as_fd())?.nlink {
            0 => Err(Errno::STALE),
            _ => Ok(()),
        }
    }

    /// Opens the directory again if its filesystem does not answer any more, or it was removed;
    /// returns whether that was needed and done.
    ///
    /// # Errors
    /// What the dead filesystem answers, if nothing at the path can take its place.
    pub fn renew(&self) -> Result<bool> {
        let _one = self.renewing.lock();
        let Err(dead) = self.answers() else {
            return Ok(false);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|_| dead)?;
        let same = match (&self.standing, Standing::of(root.as_fd())) {
            (Some(before), Some(now)) => now.takes_the_place_of(before),
            _ => false,
        };
        if !same {
            return Err(dead);
        }
        fstatvfs(&root)?;
        self.replace_root(apart(root, Access::Read));
        self.renumbers.store(true, Ordering::Relaxed);
        Ok(true)
    }
}

/// The mount on which a directory stands, as the list of mounts describes it.
#[derive(Debug)]
struct Standing {
    fs_type: Vec<u8>,
    point: Vec<u8>,
}

impl Standing {
    /// Returns nothing where the kernel does not tell. Asking sends no request to the filesystem,
    /// which may be dead, or the merged view itself if that covers the lower.
    fn of(dir: BorrowedFd<'_>) -> Option<Standing> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let id = statx(dir, c"", flags, StatxFlags::MNT_ID).ok()?;
        if id.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return None;
        }
        let text = mountinfo::read().ok()?;
        let mut lines = mountinfo::lines(&text).filter_map(std::result::Result::ok);
        let line = lines.find(|line| line.id == id.stx_mnt_id)?;
        Some(Standing {
            fs_type: line.fs_type.into(),
            point: line.point.into(),
        })
    }

    /// Whether this is what was mounted before, mounted again: the type, and where. The source is
    /// no sign: half of the filesystems that have none are called `none` or `tmpfs`.
    fn takes_the_place_of(&self, before: &Standing) -> bool {
        self.fs_type == before.fs_type && self.point == before.point
    }
}

/// Whether an error may be the connection's and not the object's, so that it may be gone the next
/// time.
pub fn may_pass(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO
            | Errno::STALE
            | Errno::NOTCONN
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::SHUTDOWN
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT
            | Errno::NODEV
            | Errno::NXIO
            | Errno::REMOTEIO
            | Errno::NOLINK
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(fs_type: &str, point: &str) -> Standing {
        Standing {
            fs_type: fs_type.into(),
            point: point.into(),
        }
    }

    #[test]
    fn only_the_same_filesystem_takes_the_place() {
        let before = standing("fuse.sshfs", "/mnt/lower");
        assert!(standing("fuse.sshfs", "/mnt/lower").takes_the_place_of(&before));
        let empty_mountpoint = standing("ext4", "/");
        assert!(!empty_mountpoint.takes_the_place_of(&before));
        let disk = standing("ext4", "/mnt/lower");
        assert!(!empty_mountpoint.takes_the_place_of(&disk));
        let covering = standing("fuse.overstore,lowerdir=/l", "/mnt/lower");
        assert!(!covering.takes_the_place_of(&before));
    }

    #[test]
    fn a_directory_that_answers_is_not_opened_again() {
        let scratch = tempfile::tempdir().unwrap();
        let devices = Arc::new(Devices::new((0, 0)));
        let lower = Lower::open(scratch.path(), devices).unwrap();
        assert!(lower.standing.is_some());
        assert_eq!(lower.renew(), Ok(false));
        assert!(!lower.renumbers());
    }
}
