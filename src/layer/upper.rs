// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing names in the upper layer: making, removing, moving and linking objects in place.
//!
//! Invariant: the one call that makes an object gives it its final name, the mode asked for and
//! the caller as its owner. It is never changed by name afterwards: by then another object may
//! stand there, put by somebody who owns the directory underneath. The one whiteout that is ever
//! made is one put back.

use super::acting::Acting;
use super::own_mount::{Access, apart};
use super::tree::{Tree, open_root};
use super::{Devices, Errno, Kind, Result, markers, stat};
use crate::error::{Error, Result as Outcome};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
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

impl NewKind<'_> {
    /// The kind of the object that is made.
    fn made(self) -> Kind {
        match self {
            NewKind::Directory => Kind::Directory,
            NewKind::Symlink(_) => Kind::Symlink,
            // A mode without a type means a regular file.
            NewKind::Node { mode, .. } => Kind::from_mode(mode).unwrap_or(Kind::Regular),
        }
    }
}

impl NewKind<'_> {
    /// Whether it is the character device 0/0, by which OverlayFS marks a deleted name.
    pub fn is_zero_device(&self) -> bool {
        matches!(self, NewKind::Node { mode, rdev: 0 } if mode & libc::S_IFMT == libc::S_IFCHR)
    }
}

/// The layer that holds everything new: a [`Tree`] that can be changed.
#[derive(Debug)]
pub struct Upper {
    tree: Tree,
    /// Who the driver is.
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
        let root = apart(open_root(path, "upper directory")?, Access::Write);
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
    ///
    /// A driver without privilege makes nothing for other users (EPERM).
    pub fn create(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let _caller = Acting::start(self.own, owner)?;
        rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, mode)
    }

    /// Makes anything else under `name` and returns a descriptor that holds it. ESTALE if
    /// somebody put another object there meanwhile, which is left alone.
    pub fn make(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: NewKind<'_>,
        mode: u32,
        owner: Owner,
    ) -> Result<OwnedFd> {
        let caller = Acting::start(self.own, owner)?;
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        match kind {
            NewKind::Directory => rustix::fs::mkdirat(dir, name, permissions)?,
            NewKind::Symlink(target) => rustix::fs::symlinkat(target, dir, name)?,
            NewKind::Node { mode, rdev } => {
                let kind = FileType::from_raw_mode(mode);
                rustix::fs::mknodat(dir, name, kind, permissions, rdev)?;
            }
        }
        drop(caller);
        let object = self.open_object(dir, name)?;
        let found = self.stat(object.as_fd())?;
        // Some filesystems give everything to one user: nothing is known where that may be us.
        let stranger = owner.uid != self.own.uid && found.uid != owner.uid;
        if found.kind != kind.made() || stranger {
            return Err(Errno::STALE);
        }
        Ok(object)
    }

    /// Links the object behind `object` as `name`; its own name may have changed meanwhile.
    pub fn link(&self, object: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let source = markers::proc_path(object);
        rustix::fs::linkat(rustix::fs::CWD, source, dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Makes the whiteout `name` again, after what was to stand in its place could not be made.
    pub fn restore_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let none = Mode::empty();
        rustix::fs::mknodat(dir, name, FileType::CharacterDevice, none, 0)
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
        self.with_write_bit(dir, || markers::set_opaque(dir))
    }

    /// Takes the opaque mark off again.
    pub fn clear_opaque(&self, dir: BorrowedFd<'_>) -> Result<()> {
        self.with_write_bit(dir, || markers::clear_opaque(dir))
    }

    /// Changes an attribute of the directory behind `dir`. Root does not care for its mode; any
    /// other owner gives himself the right to write for the moment.
    fn with_write_bit(&self, dir: BorrowedFd<'_>, change: impl Fn() -> Result<()>) -> Result<()> {
        match change() {
            Err(Errno::ACCESS) => {}
            done => return done,
        }
        let _one_at_a_time = self.widening.lock();
        let stat = self.stat(dir)?;
        if stat.uid != self.own.uid {
            return Err(Errno::ACCESS);
        }
        let mode = u32::from(stat.mode);
        self.set_mode(dir, mode | 0o200)?;
        let changed = change();
        let restored = self.set_mode(dir, mode);
        changed.and(restored)
    }
}
