// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be expected of the filesystem that holds a layer, by its type.
//!
//! Invariant: an unknown type is taken for one that keeps no promise which only local filesystems
//! keep.

use super::Result;
use rustix::fs::fstatfs;
use std::os::fd::AsFd;
use std::time::Duration;

/// Filesystems whose changes all pass through this kernel, by `f_type`; elsewhere a change may
/// come from another machine or program, and nobody is told.
const LOCAL: [u64; 12] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x7371_7368, // squashfs
    0xE0F5_E1E2, // erofs
    0x794C_7630, // overlayfs
    0xF2F5_2010, // f2fs
    0xCA45_1A4E, // bcachefs
    0x2FC1_2FC1, // zfs
    0x9660,      // isofs
];

/// btrfs.
const BTRFS: u64 = 0x9123_683E;
/// FUSE, and virtiofs.
const FUSE: u64 = 0x6573_5546;

/// The type of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem(u64);

impl Filesystem {
    pub(super) fn of(dir: impl AsFd) -> Result<Filesystem> {
        let kind = fstatfs(dir)?.f_type;
        // Some types are negative numbers in the kernel's signed field.
        Ok(Filesystem(kind.cast_unsigned() & 0xFFFF_FFFF))
    }

    /// Whether every change passes through this kernel, which then tells of it.
    pub fn is_local(self) -> bool {
        LOCAL.contains(&self.0)
    }

    /// Whether directories below may be subvolumes, with device numbers of their own.
    pub(super) fn has_subvolumes(self) -> bool {
        self.0 == BTRFS
    }

    /// Whether a position in a directory holds in another stream of it. The programs behind FUSE
    /// filesystems mostly have a listing of their own for each stream; sshfs ends when it is asked
    /// to go on in a fresh one.
    pub fn keeps_positions(self) -> bool {
        self.0 != FUSE
    }

    /// Whether an object may come to have another number while it stays the same: the program
    /// behind a FUSE filesystem may number anew what it forgot.
    pub(super) fn renumbers(self) -> bool {
        self.0 == FUSE
    }

    /// Whether a read may end before the file does, and the kernel then takes that for the file's
    /// size until it asks again: a program behind a FUSE filesystem that loses its connection
    /// may answer a read with nothing, as sshfs 3.7.3 does.
    pub fn cuts_short(self) -> bool {
        self.0 == FUSE
    }

    /// How long a directory must have kept still for its next change to move its times. Clocks of
    /// local filesystems tick 100 times a second at the slowest, those of protocols once.
    pub fn tick(self) -> Duration {
        if self.is_local() {
            Duration::from_millis(50)
        } else {
            Duration::from_secs(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_and_what_is_not() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!Filesystem::of(&proc).unwrap().is_local());
        assert!(Filesystem(0xEF53).is_local() && Filesystem(0xEF53).keeps_positions());
        assert!(!Filesystem(FUSE).is_local() && !Filesystem(FUSE).keeps_positions());
    }
}
