// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening files of a state directory to read them.
//!
//! Invariant: only a regular file is opened: a fifo would keep its reader for ever, and a device may
//! do anything.

use std::fs::{File, OpenOptions, metadata};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens `path` for reading; symlinks are followed, as by Nix.
///
/// # Errors
/// Also what is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    check(path)?;
    let mut options = OpenOptions::new();
    // It may have been replaced just now.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = options.read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused()),
    }
}

/// Refuses what is there and not a regular file.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(refused()),
    }
}

fn refused() -> io::Error {
    io::Error::other("it is not a regular file")
}
