// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounting by our own mount call, for root and for root of a user namespace.
//!
//! Invariant: the type and source are what Nix's mount check reads: source `overlay`, type
//! `fuse.overstore,lowerdir=L,upperdir=U`.

use super::MountSpec;
use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::mount as mount_call;
use rustix::process::{getegid, geteuid};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The device through which the kernel and a FUSE driver talk.
pub const DEVICE: &str = "/dev/fuse";

/// Opens a new FUSE connection. It can be mounted only from the user namespace it was opened in.
pub fn open_device() -> Result<OwnedFd> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|why| {
        let error = Error::on("open", DEVICE, why).caused_by(why.raw_os_error());
        match why {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                error.hint("as root run `modprobe fuse`; a container needs `--device /dev/fuse`")
            }
            Errno::ACCESS => error.hint(
                "it must be open to all users (mode 0666, the udev default): as root run \
                 `chmod 0666 /dev/fuse`",
            ),
            Errno::PERM => error.hint("a container needs `--device /dev/fuse`"),
            _ => error,
        }
    })
}

/// Mounts `device` as `spec` says. `EPERM` means that this process may not mount at all.
pub fn mount(device: &OwnedFd, spec: &MountSpec) -> std::result::Result<(), Errno> {
    let kind = CString::new(spec.fs_type.as_bytes()).map_err(|_| Errno::INVAL)?;
    let data = CString::new(data(device, spec)).map_err(|_| Errno::INVAL)?;
    let flags = spec.options.attributes.flags();
    mount_call(c"overlay", &spec.merged, kind, flags, data.as_c_str())
}

fn data(device: &OwnedFd, spec: &MountSpec) -> String {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw(),
    );
    if spec.options.allow_other != Some(false) {
        data.push_str(",allow_other");
    }
    data
}

/// Explains why [`mount`] failed.
pub fn mount_error(spec: &MountSpec, why: Errno) -> Error {
    let error = Error::on("mount on", &spec.merged, why).caused_by(why.raw_os_error());
    match why {
        Errno::NODEV => error.hint("the kernel has no FUSE: as root run `modprobe fuse`"),
        Errno::NAMETOOLONG => error.hint("lower and upper together must stay below 4000 bytes"),
        Errno::PERM => error.hint("run it as root, or use `overstore run`"),
        _ => error,
    }
}
