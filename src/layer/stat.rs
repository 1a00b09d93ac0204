// SPDX-License-Identifier: MIT OR Apache-2.0
//! The attributes of one backing object, as one `statx` tells them.
//!
//! Invariant: numbers are the backing's own except `ino`, which is unique over both layers.

use super::{Devices, Errno, Ino, Result};
use rustix::fs::{AtFlags, Statx, StatxFlags};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Socket.
    Socket,
}

impl Kind {
    /// Reads the type bits of a mode; `None` for a type that Linux does not have.
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Kind::Regular,
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFCHR => Kind::CharDevice,
            libc::S_IFBLK => Kind::BlockDevice,
            libc::S_IFSOCK => Kind::Socket,
            _ => return None,
        })
    }
}

/// Seconds since the epoch (negative before it) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// The attributes of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its number in the merged view.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device major and minor of a device node.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// A digest of the birth time: tells objects apart that got the same inode number one after
    /// the other. 0 where the filesystem does not know it.
    pub birth: u32,
}

impl Stat {
    /// Whether this is the character device 0/0 by which OverlayFS marks a deleted name.
    pub fn is_zero_device(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == (0, 0)
    }

    /// Whether the object looks finished by Nix: mtime 1 and, symbolic links aside, no write bit.
    pub fn is_canonical(&self) -> bool {
        let sealed_mode = self.kind == Kind::Symlink || self.mode & 0o222 == 0;
        self.mtime.seconds == 1 && sealed_mode
    }

    /// How long ago anything of the object last changed; `None` if that is in the future, as the
    /// clock of a network filesystem may have it.
    pub fn unchanged_for(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.ctime.seconds).unwrap_or(0);
        let changed = UNIX_EPOCH + Duration::new(seconds, self.ctime.nanoseconds);
        SystemTime::now().duration_since(changed).ok()
    }

    fn from_statx(stx: &Statx, devices: &Devices) -> Result<Stat> {
        let mode = u32::from(stx.stx_mode);
        Ok(Stat {
            ino: devices.ino((stx.stx_dev_major, stx.stx_dev_minor), stx.stx_ino),
            kind: Kind::from_mode(mode).ok_or(Errno::IO)?,
            mode: stx.stx_mode & 0o7777,
            nlink: stx.stx_nlink,
            uid: stx.stx_uid,
            gid: stx.stx_gid,
            rdev: (stx.stx_rdev_major, stx.stx_rdev_minor),
            size: stx.stx_size,
            blocks: stx.stx_blocks,
            blksize: stx.stx_blksize,
            atime: timestamp(&stx.stx_atime),
            mtime: timestamp(&stx.stx_mtime),
            ctime: timestamp(&stx.stx_ctime),
            birth: birth(stx),
        })
    }
}

fn timestamp(time: &rustix::fs::StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    }
}

fn birth(stx: &Statx) -> u32 {
    if stx.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return 0;
    }
    let seconds = stx.stx_btime.tv_sec.to_le_bytes();
    let low = u32::from_le_bytes([seconds[0], seconds[1], seconds[2], seconds[3]]);
    low.rotate_left(30) ^ stx.stx_btime.tv_nsec
}

/// Returns the attributes of `name` in `dir` (of `dir` itself for an empty name); `sync` says
/// whether what the kernel has cached is good enough.
pub(super) fn stat_at(
    dir: impl AsFd,
    name: &[u8],
    devices: &Devices,
    sync: AtFlags,
) -> Result<Stat> {
    Stat::from_statx(&statx(dir, name, sync)?, devices)
}

/// Returns the device that holds the object behind `fd`.
pub(super) fn device_of(fd: impl AsFd) -> Result<(u32, u32)> {
    let stx = statx(fd, b"", AtFlags::empty())?;
    Ok((stx.stx_dev_major, stx.stx_dev_minor))
}

fn statx(dir: impl AsFd, name: &[u8], sync: AtFlags) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(
        dir,
        name,
        flags | sync,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
}
