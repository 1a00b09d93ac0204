// SPDX-License-Identifier: MIT OR Apache-2.0
//! A view to read only: both layers are lowers of the overlay, the upper first.
//!
//! Invariant: the kernel has nowhere to write. With an upper directory it would write even for
//! readers (a work directory, marks in the upper); without one it reads the same markers.

use crate::attach::{Way, kernel_message};
use crate::check::FUSE_CAN;
use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::overlap;
use crate::request::Markers;
use crate::spelling::{lowers_string, settings};
use crate::words::Attributes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use std::ffi::CString;
use std::path::PathBuf;

/// The longest option string of mount(2): a page with its NUL.
const OPTIONS_BYTES: usize = 4095;

/// One view to be mounted for reading alone. It shows what a mount of the same layers shows that
/// may write, but for inode numbers: those of directories that merge and of objects that the
/// kernel once copied up are the upper's here and the lower's there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnly {
    /// The lower directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// The mountpoint.
    pub merged: PathBuf,
    /// Where the kernel keeps its markers.
    pub markers: Markers,
}

/// The directories, held.
struct Held<'a> {
    asked: &'a ReadOnly,
    lower: Directory,
    upper: Directory,
    merged: Directory,
}

impl ReadOnly {
    /// Checks the directories and mounts them.
    pub fn mount(&self) -> Result<()> {
        let Err(first) = self.mount_by(Way::Descriptors) else {
            return Ok(());
        };
        // What the newest interface says about a refusal is the most exact.
        self.mount_by(Way::Classic).map_err(|_| first)
    }

    /// Mounts by the new mount API with descriptors, or by mount(2); there is no other way.
    pub fn mount_by(&self, way: Way) -> Result<()> {
        let held = Held {
            asked: self,
            lower: Directory::find("lower directory", &self.lower)?,
            upper: Directory::find("upper directory", &self.upper)?,
            merged: Directory::find("mountpoint", &self.merged)?,
        };
        let pairs = [
            (&held.lower, &held.upper),
            (&held.merged, &held.lower),
            (&held.merged, &held.upper),
        ];
        for (one, other) in pairs {
            overlap::outside(one, other)?;
            overlap::outside(other, one)?;
        }
        for layer in [&held.lower, &held.upper] {
            layer.open().map(drop)?;
        }
        match way {
            Way::Descriptors => held.by_descriptors(),
            Way::Paths | Way::Classic => held.classic(),
        }
    }
}

fn attributes() -> Attributes {
    let mut attributes = Attributes::default();
    attributes.apply(b"ro");
    attributes
}

impl Held<'_> {
    /// By the new mount API, which takes layers by descriptor since Linux 6.13.
    fn by_descriptors(&self) -> Result<()> {
        let plain = |why| self.refused("", why);
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(plain)?;
        let detached = self
            .configure(&context)
            .map_err(|why| self.refused(&kernel_message(&context), why))?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(detached, "", &self.merged.fd, "", flags).map_err(plain)
    }

    fn configure(&self, context: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
        let fs = context.as_fd();
        fsconfig_set_string(fs, "source", "overlay")?;
        for layer in [&self.upper, &self.lower] {
            fsconfig_set_fd(fs, "lowerdir+", &layer.fd)?;
        }
        for (name, value) in settings(self.asked.markers) {
            match value {
                Some(value) => fsconfig_set_string(fs, *name, *value),
                None => fsconfig_set_flag(fs, *name),
            }?;
        }
        fsconfig_set_flag(fs, "ro")?;
        fsconfig_create(fs)?;
        fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes().of_mount())
    }

    /// By mount(2), which takes paths only.
    fn classic(&self) -> Result<()> {
        let options = lowers_string(&self.upper.path, &self.lower.path, self.asked.markers);
        let data = CString::new(options)
            .ok()
            .filter(|data| data.count_bytes() <= OPTIONS_BYTES)
            .ok_or_else(|| self.refused("", Errno::NAMETOOLONG))?;
        let target = self.merged.by_descriptor();
        for directory in [&self.lower, &self.upper, &self.merged] {
            directory.still_there()?;
        }
        mount(
            "overlay",
            target,
            "overlay",
            attributes().flags(),
            data.as_c_str(),
        )
        .map_err(|why| self.refused("", why))
    }

    fn refused(&self, message: &str, why: Errno) -> Fault {
        let mut what = format!(
            "mount OverlayFS of {} over {}",
            printable(&self.upper.path),
            printable(&self.lower.path)
        );
        if !message.is_empty() {
            what = format!("{what}: {message}");
        }
        let fault = Fault::kernel(what, why);
        match why {
            Errno::NODEV => fault
                .hint("the kernel has no OverlayFS: as root run `modprobe overlay`")
                .hint(FUSE_CAN),
            _ => fault,
        }
    }
}
