// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a descriptor stands for, whatever its path is called later.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;

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
}

/// Returns the id of the mount that `directory` was reached through, as mountinfo shows it; `None`
/// before Linux 5.8.
pub(crate) fn mount_id(directory: impl AsFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let answer = statx(directory, "", flags, StatxFlags::MNT_ID).ok()?;
    (answer.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(answer.stx_mnt_id)
}
