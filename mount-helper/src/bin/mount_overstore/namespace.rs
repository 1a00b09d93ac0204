// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entering the mount namespace that mount(8) was told.
//!
//! Invariant: what is opened is looked at before it is used: a file of another kind neither blocks
//! nor is taken for a namespace.

use overstore_mount::{Fault, printable};
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The type of the filesystem of namespaces, `NSFS_MAGIC` of the kernel.
const NSFS: u64 = 0x6e73_6673;

/// Enters the mount namespace of a process id or a file.
pub(crate) fn enter(namespace: &OsStr) -> Result<(), Fault> {
    let digits = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let file = match namespace.to_str().filter(|_| digits) {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/ns/mnt")),
        None => PathBuf::from(namespace),
    };
    let what = format!("enter mount namespace {}", printable(&file));
    let refused = |why: Errno| Fault::system(format!("{what}: {}", std::io::Error::from(why)));
    let wrong = || Fault::system(format!("{what}: the file is no mount namespace"));
    // A FIFO would have its reader wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, &file, flags, Mode::empty()).map_err(refused)?;
    let kind = fstatfs(&opened).map_err(refused)?.f_type;
    if u64::try_from(kind) != Ok(NSFS) {
        return Err(wrong());
    }
    move_into_link_name_space(opened.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(|why| {
        match why {
            // A namespace of another kind.
            Errno::INVAL => wrong(),
            _ => refused(why),
        }
    })
}
