// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing names in the upper layer: making, removing, moving and linking objects in place.
//!
//! Invariant: a new object appears under its final name at once, with the mode asked for and
//! the owner of the caller, or not at all. Nothing here ever makes a whiteout.

use super::tree::{Tree, open_root};
use super::{Devices, Errno, Result, markers, stat};
use crate::error::{Error, Result as Outcome};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Who a new object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group, unless the directory passes on its own.
    pub gid: u32,
}

/// What to make under a new name, regular files apart.
#[derive(Debug, Clone, Copy)]
pub enum NewKind<'a> {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A regular file, pipe, socket or device: `mknod` with the full mode and device number.
    Node {
        /// Type and permission bits.
        mode: u32,
        /// Device number, `makedev` form.
        rdev: u64,
    },
}

/// The layer that holds everything new: a [`Tree`] that can be changed.
#[derive(Debug)]
pub struct Upper {
    tree: Tree,
    /// Who the driver is: objects are made with these ids.
    pub(super) own: Owner,
    /// Held while a file's mode is widened for a moment (see `open_write`).
    pub(super) widening: Mutex<()>,
}

impl Deref for Upper {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl Upper {
    /// Opens the upper directory; its filesystem becomes the first of the view's devices.
    pub fn open(path: &Path) -> Outcome<(Upper, Arc<Devices>)> {
        let failed = |errno| Error::on("examine upper directory", path, errno);
        let root = open_root(path, "upper directory")?;
        let devices = Arc::new(Devices::new(stat::device_of(&root).map_err(failed)?));
        let tree = Tree::new(root, Arc::clone(&devices)).map_err(failed)?;
        let own = Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        Ok((
            Upper {
                tree,
                own,
                widening: Mutex::new(()),
            },
            devices,
        ))
    }

    /// Makes the regular file `name` and returns it open for reading and writing.
    pub fn create(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let plain = Mode::from_raw_mode(mode & 0o1777);
        let file = rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, plain)?;
        self.undo_unless(
            dir,
            name,
            AtFlags::empty(),
            self.settle(dir, file.as_fd(), mode, owner),
        )?;
        Ok(file)
    }

    /// Makes anything else under `name` and returns a descriptor that holds it.
    pub fn make(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: NewKind<'_>,
        mode: u32,
        owner: Owner,
    ) -> Result<OwnedFd> {
        let mut undo = AtFlags::empty();
        match kind {
            NewKind::Directory => {
                rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o1777))?;
                undo = AtFlags::REMOVEDIR;
            }
            NewKind::Symlink(target) => rustix::fs::symlinkat(target, dir, name)?,
            NewKind::Node { mode, rdev } => {
                let plain = Mode::from_raw_mode(mode & 0o1777);
                rustix::fs::mknodat(dir, name, FileType::from_raw_mode(mode), plain, rdev)?;
            }
        }
        let settled = self.open_object(dir, name).and_then(|object| {
            let special = matches!(kind, NewKind::Node { .. });
            let mode = if special { mode } else { 0 };
            self.settle(dir, object.as_fd(), mode, owner)
                .map(|()| object)
        });
        self.undo_unless(dir, name, undo, settled)
    }

    /// Gives a new object to its owner and sets the bits that a change of owner clears.
    fn settle(
        &self,
        dir: BorrowedFd<'_>,
        object: BorrowedFd<'_>,
        mode: u32,
        owner: Owner,
    ) -> Result<()> {
        if owner != self.own {
            let inherits = self.stat(dir)?.mode & 0o2000 != 0;
            let group = (!inherits).then(|| Gid::from_raw(owner.gid));
            let user = (owner.uid != self.own.uid).then(|| Uid::from_raw(owner.uid));
            match rustix::fs::chownat(object, c"", user, group, AtFlags::EMPTY_PATH) {
                // A driver without privilege cannot give to a group that it is not in.
                Err(Errno::PERM) if user.is_none() => {}
                other => other?,
            }
        }
        if mode & 0o6000 != 0 {
            self.set_mode(object, mode)?;
        }
        Ok(())
    }

    fn undo_unless<T>(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        flags: AtFlags,
        done: Result<T>,
    ) -> Result<T> {
        if done.is_err()
            && let Err(errno) = rustix::fs::unlinkat(dir, name, flags)
        {
            log::warn!("remove half-made {}: {errno}", name.escape_ascii());
        }
        done
    }

    /// Links the object behind `object` as `name`; its own name may have changed meanwhile.
    pub fn link(&self, object: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let source = markers::proc_path(object);
        rustix::fs::linkat(rustix::fs::CWD, source, dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Removes `name`, which is not a directory.
    pub fn unlink(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    }

    /// Removes the empty directory `name`.
    pub fn rmdir(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
    }

    /// Moves `from` to `to` at once; `flags` are those of `renameat2`.
    pub fn rename(
        &self,
        from: (BorrowedFd<'_>, &[u8]),
        to: (BorrowedFd<'_>, &[u8]),
        flags: u32,
    ) -> Result<()> {
        let flags = RenameFlags::from_bits_retain(flags);
        rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags)
    }

    /// Marks the directory behind `dir` opaque, so that a lower one of its name stays hidden.
    pub fn set_opaque(&self, dir: BorrowedFd<'_>) -> Result<()> {
        markers::set_opaque(dir)
    }
}
