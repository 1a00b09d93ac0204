// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a descriptor stands for, whatever its path is called later.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, StatxFlags, fstat, makedev, statx};
use rustix::io::Errno;
use std::path::Path;

/// One directory of one filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    pub(crate) fn of(directory: impl AsFd) -> Result<Identity, Errno> {
        let stat = fstat(directory)?;
        Ok(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Returns that of what is at `path`, without a request to the filesystem that it is on, and
    /// without following a symlink in its place.
    fn at(path: &Path) -> Result<Identity, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let answer = statx(CWD, path, flags, StatxFlags::INO)?;
        Ok(Identity {
            device: makedev(answer.stx_dev_major, answer.stx_dev_minor),
            inode: answer.stx_ino,
        })
    }

    /// Whether `path` leads to the same directory, be it by another mount.
    pub(crate) fn is_at(self, path: &Path) -> bool {
        Identity::at(path) == Ok(self)
    }
}

/// Whether two paths are the same or lead to the same directory, as they do where a parent is
/// bind-mounted. Symlinks in their place are not followed.
pub fn same_directory(one: &Path, other: &Path) -> bool {
    one == other || Identity::at(one).is_ok_and(|identity| identity.is_at(other))
}

/// Returns the id of the mount that `directory` was reached through, as mountinfo shows it; `None`
/// where neither statx tells it, as before Linux 5.8, nor `/proc`.
pub(crate) fn mount_id(directory: impl AsFd) -> Option<u64> {
    let directory = directory.as_fd();
    told_by_statx(directory).or_else(|| told_by_proc(directory))
}

fn told_by_proc(directory: BorrowedFd<'_>) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", directory.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

fn told_by_statx(directory: BorrowedFd<'_>) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let answer = statx(directory, "", flags, StatxFlags::MNT_ID).ok()?;
    (answer.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(answer.stx_mnt_id)
}
