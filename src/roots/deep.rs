// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and directories in use whose paths are too long for a link of `/proc`.
//!
//! Anybody can make such a path, and stop every collector of the machine if that were an error. An
//! object is near the start of its paths, so the path of a directory far enough above tells it.
//! Invariant: what may be in an object and cannot be told is an error, never passed over.

use crate::wait::Interrupt;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type of OverlayFS, whose files may have the device numbers of its layers.
const OVERLAYFS: u32 = 0x794c_7630;

/// Returns the path of a directory above that to which `link` leads; `None` for what is on another
/// filesystem than all of `directories`.
pub(super) fn path_above(
    link: &Path,
    directories: &[PathBuf],
    interrupt: &Interrupt,
) -> io::Result<Option<PathBuf>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(link, flags, Mode::empty())?;
    let mut stat = rustix::fs::fstat(&at)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return match is_elsewhere(&at, &stat, directories)? {
            true => Ok(None),
            false => Err(unknown()),
        };
    }
    loop {
        if interrupt.is_set() {
            return Err(io::Error::other("interrupted"));
        }
        let above = rustix::fs::openat(&at, "..", flags | OFlags::DIRECTORY, Mode::empty());
        // Not that what is above may not be entered: this user is shown what is below.
        at = above.map_err(|_| unknown())?;
        let before = std::mem::replace(&mut stat, rustix::fs::fstat(&at)?);
        match path_of(&at) {
            Err(Errno::NAMETOOLONG) if is_same(&before, &stat) => return Err(unknown()),
            Err(Errno::NAMETOOLONG) => {}
            path => return Ok(Some(path?)),
        }
    }
}

fn path_of(at: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", at.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn is_elsewhere(file: &OwnedFd, stat: &Stat, directories: &[PathBuf]) -> io::Result<bool> {
    let overlays = is_overlay(file)?;
    for directory in directories {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            opened => opened?,
        };
        let of_store = rustix::fs::fstat(&opened)?;
        if of_store.st_dev == stat.st_dev || overlays && is_overlay(&opened)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_overlay(file: impl AsFd) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(file)?.f_type;
    Ok(u32::try_from(kind).is_ok_and(|kind| kind == OVERLAYFS))
}

fn unknown() -> io::Error {
    io::Error::other("its path is too long to be known, and may be in the store; end the process")
}
