// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layers themselves, looked at where a difference asks for its reason.
//!
//! Invariant: nothing outside a layer is reached, and no symlink is followed.

use super::side::{Got, kind_of};
use super::unreadable;
use crate::error::Result;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, getxattr, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Both layers.
#[derive(Debug)]
pub(super) struct Layers {
    lower: OwnedFd,
    upper: OwnedFd,
    /// Whether inode numbers of both are of one filesystem.
    pub(super) one_filesystem: bool,
}

impl Layers {
    pub(super) fn open(lower: &Path, upper: &Path) -> Result<Layers> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(CWD, path, flags, Mode::empty());
            dir.and_then(|dir| Ok((fstat(&dir)?.st_dev, dir)))
                .map_err(|why| unreadable(path, why))
        };
        let (lower_device, lower) = open(lower)?;
        let (upper_device, upper) = open(upper)?;
        Ok(Layers {
            lower,
            upper,
            one_filesystem: lower_device == upper_device,
        })
    }

    /// Whether the lower has nothing that the upper's object at `path` could hide.
    pub(super) fn nothing_to_hide(&self, path: &[u8]) -> bool {
        match object(&self.lower, path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => true,
            Err(_) => false,
            Ok(_) => prefixes(path).any(|above| {
                above != path
                    && (self.is_marked(above, "opaque", |value| value == b"y")
                        || !self.is_directory_in_lower(above))
            }),
        }
    }

    fn is_directory_in_lower(&self, path: &[u8]) -> bool {
        object(&self.lower, path)
            .and_then(fstat)
            .is_ok_and(|stat| kind_of(&stat) == FileType::Directory)
    }

    /// Whether the upper's object at `path`, or a directory above it, has a mark that leads away.
    pub(super) fn is_redirected(&self, path: &[u8]) -> bool {
        let marks = ["redirect", "metacopy"];
        prefixes(path).any(|at| marks.iter().any(|mark| self.is_marked(at, mark, |_| true)))
    }

    /// Whether the upper's object at `path` has a mark of either family with such a value.
    fn is_marked(&self, path: &[u8], mark: &str, fits: impl Fn(&[u8]) -> bool) -> bool {
        let Ok(object) = object(&self.upper, path) else {
            return false;
        };
        // The calls for extended attributes take no O_PATH descriptor.
        let object_path = format!("/proc/self/fd/{}", object.as_raw_fd());
        ["trusted", "user"].iter().any(|family| {
            let mut value = [0; 4096];
            let name = format!("{family}.overlay.{mark}");
            getxattr(&object_path, name, &mut value[..]).is_ok_and(|length| fits(&value[..length]))
        })
    }

    /// Whether something at or above `path` changed in a layer since `start` (of the clock that
    /// filesystems use).
    pub(super) fn changed_since(&self, path: &[u8], start: Duration) -> bool {
        let newer = |stat: &Stat| {
            let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
            // Below 10^9.
            Duration::new(seconds, stat.st_ctime_nsec as u32) >= start
        };
        let above = std::iter::once(b"".as_slice()).chain(prefixes(path));
        above.into_iter().any(|at| {
            [&self.lower, &self.upper].into_iter().any(|layer| {
                object(layer, at)
                    .and_then(fstat)
                    .is_ok_and(|stat| newer(&stat))
            })
        })
    }
}

/// Holds the object at `path`; the layer's top for an empty one.
fn object(layer: &OwnedFd, path: &[u8]) -> Got<OwnedFd> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(layer, path, flags, Mode::empty(), resolve)
}

/// Returns `a`, `a/b`, `a/b/c` of the last.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate();
    let ends = ends.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let whole = (!path.is_empty()).then_some(path.len());
    ends.chain(whole).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn prefixes_are_the_directories_above_and_the_path() {
        let of = |path: &'static [u8]| prefixes(path).collect::<Vec<_>>();
        assert_eq!(of(b"a/bc/d"), [b"a".as_slice(), b"a/bc", b"a/bc/d"]);
        assert_eq!(of(b"a"), [b"a"]);
        assert!(of(b"").is_empty());
    }
}
