// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a layer, object by object, straight into its directory.

use super::check::Must;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The two families of overlay attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `trusted.overlay.*`, which only root of the initial user namespace may set.
    Trusted,
    /// `user.overlay.*`, as with the kernel's `userxattr`.
    User,
}

impl Family {
    /// Returns the full name of the attribute `name` in this family.
    pub(crate) fn attribute(self, name: &str) -> String {
        match self {
            Family::Trusted => format!("trusted.overlay.{name}"),
            Family::User => format!("user.overlay.{name}"),
        }
    }
}

/// One layer's directory. Parents are made as needed; every method may be chained.
#[derive(Debug, Clone)]
pub(crate) struct LayerBuilder {
    root: PathBuf,
    family: Family,
}

impl LayerBuilder {
    /// Makes the directory `root`, if it is missing, whose markers are of `family`.
    pub(crate) fn new(root: PathBuf, family: Family) -> Self {
        fs::create_dir_all(&root).must();
        LayerBuilder { root, family }
    }

    /// Returns the path of `name` in this layer.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    fn fresh(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a layer has a parent")).must();
        path
    }

    /// Makes a directory.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> &Self {
        fs::create_dir_all(self.path(name)).must();
        self
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.fresh(name), content).must();
        self
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&self, name: impl AsRef<Path>, target: impl AsRef<Path>) -> &Self {
        std::os::unix::fs::symlink(target, self.fresh(name)).must();
        self
    }

    /// Makes a second name for a file.
    pub(crate) fn hard_link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> &Self {
        fs::hard_link(self.path(from), self.fresh(to)).must();
        self
    }

    /// Makes a named pipe.
    pub(crate) fn fifo(&self, name: impl AsRef<Path>) -> &Self {
        self.node(name, FileType::Fifo, 0)
    }

    /// Makes a character device.
    pub(crate) fn device(&self, name: impl AsRef<Path>, major: u32, minor: u32) -> &Self {
        let device = rustix::fs::makedev(major, minor);
        self.node(name, FileType::CharacterDevice, device)
    }

    /// Makes a whiteout: a 0/0 character device, which every user may make.
    pub(crate) fn whiteout(&self, name: impl AsRef<Path>) -> &Self {
        self.device(name, 0, 0)
    }

    fn node(&self, name: impl AsRef<Path>, kind: FileType, device: u64) -> &Self {
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(CWD, self.fresh(name), kind, mode, device).must();
        self
    }

    /// Makes a directory that hides the lower one.
    pub(crate) fn opaque(&self, name: impl AsRef<Path>) -> &Self {
        self.dir(&name).marker(name, "opaque", "y")
    }

    /// Sets the overlay attribute `marker` in this layer's family.
    pub(crate) fn marker(&self, name: impl AsRef<Path>, marker: &str, value: &str) -> &Self {
        self.xattr(name, &self.family.attribute(marker), value)
    }

    /// Sets an extended attribute.
    pub(crate) fn xattr(&self, name: impl AsRef<Path>, attribute: &str, value: &str) -> &Self {
        let path = self.path(name);
        rustix::fs::lsetxattr(path, attribute, value.as_bytes(), XattrFlags::empty()).must();
        self
    }

    /// Sets permission bits.
    pub(crate) fn mode(&self, name: impl AsRef<Path>, bits: u32) -> &Self {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(bits)).must();
        self
    }

    /// Sets owner and group.
    pub(crate) fn owner(&self, name: impl AsRef<Path>, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.path(name), Some(uid), Some(gid)).must();
        self
    }

    /// Sets the modification time, in seconds since 1970.
    pub(crate) fn mtime(&self, name: impl AsRef<Path>, seconds: i64) -> &Self {
        super::check::set_mtime(&self.path(name), seconds).must();
        self
    }
}
