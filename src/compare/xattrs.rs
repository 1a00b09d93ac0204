// SPDX-License-Identifier: MIT OR Apache-2.0
//! The extended attributes of one object.

use super::side::{At, Got};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Name to value; a value that cannot be read is told by its errno.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Got<Vec<u8>>>;

/// Returns a path of one object that follows no symlink at its end: the calls for extended
/// attributes know no directory descriptor.
fn path(at: At<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", at.dir.as_raw_fd())).join(at.name)
}

/// Returns all attributes of an object that a listing tells.
pub(super) fn all(at: At<'_>) -> Got<Xattrs> {
    let path = path(at);
    let list = grown(|buffer| rustix::fs::llistxattr(&path, buffer))?;
    let names = list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let read = |name: &[u8]| {
        let value = grown(|buffer| rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), buffer));
        (name.to_vec(), value)
    };
    Ok(names.map(read).collect())
}

/// Asks for one attribute.
pub(super) fn one(at: At<'_>, name: &str) -> Got<()> {
    let path = path(at);
    grown(|buffer| rustix::fs::lgetxattr(&path, name, buffer)).map(drop)
}

/// Calls with more room until there is enough; most objects have none, and need one call.
fn grown(call: impl Fn(&mut [u8]) -> Got<usize>) -> Got<Vec<u8>> {
    /// Neither a list nor a value is longer.
    const LONGEST: usize = 64 * 1024;
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LONGEST => buffer.resize(LONGEST, 0),
            Err(errno) => return Err(errno),
        }
    }
}
