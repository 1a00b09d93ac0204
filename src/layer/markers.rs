// SPDX-License-Identifier: MIT OR Apache-2.0
//! The marks that kernel OverlayFS leaves on upper objects: which there are, how they are
//! stored, and that nobody sees them.
//!
//! Invariant: a mark we do not follow (`redirect`, `metacopy`) is never ignored silently.
//! Format: Documentation/filesystems/overlayfs.rst of the Linux kernel.

use super::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The two attribute families: the first of privileged mounts, the second of `userxattr` mounts.
const FAMILIES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What the marks of one upper object say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The directory hides the lower one of the same name.
    pub opaque: bool,
    /// The object's lower part lives under another name.
    pub redirect: bool,
    /// The file has attributes only; its data is in the lower.
    pub metacopy: bool,
}

/// Whether `name` is bookkeeping of OverlayFS, which is never shown.
pub(super) fn is_overlay_xattr(name: &[u8]) -> bool {
    FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether user `uid` sees attribute `name` in a list. The kernel names `trusted.*` to privileged
/// processes alone; a driver of root is told of them, and passes that on to root alone.
pub(super) fn is_listed_for(name: &[u8], uid: u32) -> bool {
    !is_overlay_xattr(name) && (uid == 0 || !name.starts_with(b"trusted."))
}

/// Reads the marks of the object behind `fd`, which may be an `O_PATH` descriptor.
pub(super) fn read(fd: BorrowedFd<'_>) -> Result<Marks> {
    let path = proc_path(fd);
    marks(
        grow(|buffer| rustix::fs::listxattr(&path, buffer)),
        |name| grow(|buffer| rustix::fs::getxattr(&path, name, buffer)),
    )
}

/// Reads the marks of `name` in `dir`, without opening it.
pub(super) fn read_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Marks> {
    let mut path = proc_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name);
    marks(
        grow(|buffer| rustix::fs::llistxattr(&path[..], buffer)),
        |name| grow(|buffer| rustix::fs::lgetxattr(&path[..], name, buffer)),
    )
}

fn marks(names: Result<Vec<u8>>, value: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Marks> {
    let names = match names {
        Err(Errno::OPNOTSUPP) => return Ok(Marks::default()),
        names => names?,
    };
    let mut marks = Marks::default();
    for name in names.split(|&byte| byte == 0) {
        let Some(mark) = FAMILIES
            .iter()
            .find_map(|family| name.strip_prefix(*family))
        else {
            continue;
        };
        match mark {
            b"opaque" => marks.opaque |= is_yes(value(name))?,
            b"redirect" => marks.redirect = true,
            b"metacopy" => marks.metacopy = true,
            _ => {}
        }
    }
    Ok(marks)
}

/// Returns the names of OverlayFS's attributes of `name` in `dir`, without opening it.
pub(super) fn names_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut path = proc_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name);
    let names = match grow(|buffer| rustix::fs::llistxattr(&path[..], buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let names = names.split(|&byte| byte == 0);
    Ok(names
        .filter(|name| is_overlay_xattr(name))
        .map(<[u8]>::to_vec)
        .collect())
}

/// Marks the directory behind `fd` opaque for both backends, in the family that we may write.
pub(super) fn set_opaque(fd: BorrowedFd<'_>) -> Result<()> {
    let path = proc_path(fd);
    let set =
        |name: &[u8]| rustix::fs::setxattr(&path, name, b"y", rustix::fs::XattrFlags::empty());
    match set(b"trusted.overlay.opaque") {
        Err(Errno::PERM) => set(b"user.overlay.opaque"),
        other => other,
    }
}

/// Takes the opaque mark off the directory behind `fd`, whichever family it is of.
pub(super) fn clear_opaque(fd: BorrowedFd<'_>) -> Result<()> {
    let path = proc_path(fd);
    for family in FAMILIES {
        let name = [family, b"opaque"].concat();
        match rustix::fs::removexattr(&path, &name[..]) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns the attribute names of the object behind `path`, each ended by a NUL.
pub(super) fn list(path: &str) -> Result<Vec<u8>> {
    grow(|buffer| rustix::fs::listxattr(path, buffer))
}

/// Returns the value of attribute `name`.
pub(super) fn get(path: &str, name: &[u8]) -> Result<Vec<u8>> {
    grow(|buffer| rustix::fs::getxattr(path, name, buffer))
}

/// The path by which the object behind a descriptor, also an `O_PATH` one, can be named again.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn is_yes(value: Result<Vec<u8>>) -> Result<bool> {
    match value {
        Ok(value) => Ok(value == b"y"),
        Err(Errno::NODATA) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Calls `read` with growing buffers until the answer fits.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // 64 KiB is the kernel's limit for values and for lists.
            Err(Errno::RANGE) if buffer.len() < 1 << 16 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_bookkeeping_and_nothing_else_is() {
        assert!(is_overlay_xattr(b"trusted.overlay.opaque"));
        assert!(is_overlay_xattr(b"user.overlay.origin"));
        assert!(!is_overlay_xattr(b"user.overlayfs"));
        assert!(!is_overlay_xattr(b"security.capability"));
    }

    #[test]
    fn trusted_attributes_are_listed_for_root_alone() {
        assert!(is_listed_for(b"trusted.note", 0) && !is_listed_for(b"trusted.note", 1000));
        assert!(is_listed_for(b"user.note", 1000) && !is_listed_for(b"user.overlay.opaque", 0));
    }
}
