// SPDX-License-Identifier: MIT OR Apache-2.0
//! Telling one mount from its successor at the same path.
//!
//! Invariant: asking sends no request to the filesystem, so a driver may ask about its own mount
//! and about a dead one.

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::io;
use std::path::Path;

/// `STATX_MNT_ID_UNIQUE` of Linux 6.8.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The identity of the mount that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountId {
    /// Never used for another mount while the kernel runs.
    Unique(u64),
    /// What mountinfo shows; the kernel may use it again after an unmount (before Linux 6.8).
    Reused(u64),
}

/// Returns the id by which mountinfo lists the mount that `path` leads to.
pub fn listed(path: &Path) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let answer = statx(CWD, path, flags, StatxFlags::MNT_ID)?;
    match answer.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => Err(io::Error::from(io::ErrorKind::Unsupported)),
        _ => Ok(answer.stx_mnt_id),
    }
}

impl MountId {
    /// Returns the identity of the mount at `path`, which must be free of symlinks at its end.
    pub fn of(path: &Path) -> io::Result<MountId> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let answer = statx(CWD, path, flags, UNIQUE)?;
        if answer.stx_mask & UNIQUE.bits() != 0 {
            return Ok(MountId::Unique(answer.stx_mnt_id));
        }
        listed(path).map(MountId::Reused)
    }
}
