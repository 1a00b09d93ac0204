// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing the attributes of one mount, by descriptor.

#![expect(unsafe_code, reason = "no library wraps mount_setattr(2)")]

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One change of a mount.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// No mount made elsewhere arrives in it.
    Private,
    /// Nothing can be changed through it.
    ReadOnly,
    /// Reading through it moves no access time.
    KeepAccessTimes,
}

/// Changes the mount whose top directory `mount` is (an `O_PATH` descriptor will do).
pub fn change(mount: BorrowedFd<'_>, change: Change) -> Result<(), Errno> {
    let (set, clear, propagation) = match change {
        Change::Private => (0, 0, libc::MS_PRIVATE),
        Change::ReadOnly => (libc::MOUNT_ATTR_RDONLY, 0, 0),
        Change::KeepAccessTimes => (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME, 0),
    };
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    // SAFETY: the path is a constant with its NUL; the kernel reads as many bytes of the structure
    // as it is told, and keeps neither pointer.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        let errno = std::io::Error::last_os_error().raw_os_error();
        Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)))
    }
}
