// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading from either layer.
//!
//! Invariant: absence is `Ok(None)` and only "no such name" is absence; every other failure of
//! the backing filesystem is passed on as what it is.

use super::{Devices, Errno, Filesystem, Kind, Result, Stat, markers, stat};
use crate::error::{Error, Result as Outcome};
use parking_lot::RwLock;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// One directory tree, for reading.
#[derive(Debug)]
pub struct Tree {
    root: RwLock<Arc<OwnedFd>>,
    filesystem: Filesystem,
    pub(super) devices: Arc<Devices>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, devices: Arc<Devices>) -> Result<Tree> {
        let filesystem = Filesystem::of(&root)?;
        Ok(Tree {
            root: RwLock::new(Arc::new(root)),
            filesystem,
            devices,
        })
    }

    /// Returns the tree's top directory (an `O_PATH` descriptor).
    pub fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root.read())
    }

    /// Takes another directory for the top one from now on.
    pub(super) fn replace_root(&self, root: OwnedFd) {
        *self.root.write() = Arc::new(root);
    }

    /// Returns the type of the filesystem that holds the tree.
    pub fn filesystem(&self) -> Filesystem {
        self.filesystem
    }

    /// Returns the attributes of `name` in `dir`, or `None` if there is no such name.
    pub fn probe(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>> {
        match self.stat_at(dir, name) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the attributes of the object behind `fd`.
    pub fn stat(&self, fd: BorrowedFd<'_>) -> Result<Stat> {
        self.stat_at(fd, b"")
    }

    /// Returns the attributes that the filesystem tells, not the kernel's idea of a size.
    fn stat_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
        let stat = stat::stat_at(dir, name, &self.devices, AtFlags::empty())?;
        if stat.kind == Kind::Regular && self.filesystem.cuts_short() {
            return stat::stat_at(dir, name, &self.devices, AtFlags::STATX_FORCE_SYNC);
        }
        Ok(stat)
    }

    /// Opens the directory `name` in `dir` for naming things in it (`O_PATH`).
    pub fn open_dir(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        open(dir, name, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens `name` in `dir`, whatever it is, only to hold and examine it (`O_PATH`).
    pub fn open_object(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        open(dir, name, OFlags::PATH)
    }

    /// Opens the regular file `name` in `dir` for reading; its access time stays where we may.
    ///
    /// Where the filesystem cuts reads short the kernel fills its page with zeros and keeps it: such
    /// files are read past the page cache, if they can be.
    pub fn open_file(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        if self.filesystem.cuts_short() {
            match open_quietly(dir, name, flags | OFlags::DIRECT) {
                Err(Errno::INVAL) => {}
                other => return other,
            }
        }
        open_quietly(dir, name, flags)
    }

    /// Opens a file again that was opened past the page cache and whose filesystem then refuses to
    /// be read so (EINVAL); nothing for any other file.
    pub fn reopen_cached(&self, file: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
        let direct = rustix::fs::fcntl_getfl(file)?.contains(OFlags::DIRECT);
        direct.then(|| self.reopen_file(file)).transpose()
    }

    /// Opens the regular file behind a held descriptor for reading.
    pub fn reopen_file(&self, held: BorrowedFd<'_>) -> Result<OwnedFd> {
        reopen(held, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    /// Returns the target of the symbolic link `name` in `dir`; an empty name is `dir` itself.
    pub fn read_link(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
    }

    /// Reads the marks of OverlayFS on the object behind `fd`.
    pub fn marks(&self, fd: BorrowedFd<'_>) -> Result<markers::Marks> {
        markers::read(fd)
    }

    /// Reads the marks of OverlayFS on `name` in `dir`, without a descriptor of it.
    pub fn marks_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<markers::Marks> {
        markers::read_at(dir, name)
    }

    /// Returns the names of all of OverlayFS's attributes of `name` in `dir`.
    pub fn bookkeeping_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>> {
        markers::names_at(dir, name)
    }

    /// Returns the names of the real extended attributes behind `fd`, each ended by a NUL, as
    /// user `uid` would be told them.
    pub fn list_xattrs(&self, fd: BorrowedFd<'_>, uid: u32) -> Result<Vec<u8>> {
        let names = markers::list(&markers::proc_path(fd))?;
        let mut shown = Vec::with_capacity(names.len());
        for name in names.split_inclusive(|&byte| byte == 0) {
            if markers::is_listed_for(name, uid) {
                shown.extend_from_slice(name);
            }
        }
        Ok(shown)
    }

    /// Returns the value of the real extended attribute `name` behind `fd`.
    pub fn get_xattr(&self, fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
        if markers::is_overlay_xattr(name) {
            return Err(Errno::NODATA);
        }
        markers::get(&markers::proc_path(fd), name)
    }

    /// Returns the state of the filesystem that holds the tree.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs> {
        rustix::fs::fstatvfs(self.root())
    }
}

/// Opens the top directory of a layer, following symbolic links as the user wrote them.
pub(super) fn open_root(path: &Path, what: &str) -> Outcome<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let error = Error::on(&format!("open {what}"), path, errno);
        match errno {
            Errno::NOENT => error.hint("create it, or name another one"),
            Errno::NOTDIR => error.hint("it must be a directory"),
            _ => error,
        }
    })
}

/// Opens `name` in `dir`, unless it is a symbolic link (ELOOP) or something is mounted there
/// (EXDEV), which is no part of the layer.
pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Err(Errno::NOSYS) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// Opens for reading without moving the access time, which only the owner may ask for.
pub(super) fn open_quietly(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    match open(dir, name, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(dir, name, flags),
        other => other,
    }
}

/// Opens the object behind a held descriptor again, with other rights.
pub(super) fn reopen(held: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(
        markers::proc_path(held),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn opening_stops_where_something_is_mounted() {
        let root = open_root(Path::new("/"), "root directory").unwrap();
        for flags in [OFlags::PATH, OFlags::RDONLY | OFlags::DIRECTORY] {
            let opened = open(root.as_fd(), b"proc", flags);
            assert_eq!(opened.err(), Some(Errno::XDEV));
        }
        assert!(open(root.as_fd(), b".", OFlags::PATH | OFlags::DIRECTORY).is_ok());
    }
}
