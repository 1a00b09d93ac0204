// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing one object of the upper layer, and the one gate to writable descriptors.
//!
//! Invariant: a [`WriteFd`] is made here and nowhere else, from an object of the upper layer.

use super::tree::{open, reopen};
use super::{Errno, Result, Timestamp, Upper, markers};
use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
    XattrFlags,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A regular file of the upper layer, open for reading and writing.
#[derive(Debug)]
pub struct WriteFd(OwnedFd);

/// One time of an object in a change of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// Stays.
    Keep,
    /// Becomes the time of the call.
    Now,
    /// Becomes this time.
    To(Timestamp),
}

/// The two times that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Last access.
    pub atime: TimeChange,
    /// Last change of the contents.
    pub mtime: TimeChange,
}

impl Upper {
    /// Opens the regular file `name` in `dir` for writing.
    ///
    /// A request to write was allowed by the kernel when the file was opened; the mode may have
    /// lost its write bit since. Root does not care; any other owner widens the mode of his own
    /// file for the moment of opening.
    pub fn open_write(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<WriteFd> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        match open(dir, name, flags) {
            Err(Errno::ACCESS) => self.open_widened(self.open_object(dir, name)?.as_fd()),
            other => other.map(WriteFd),
        }
    }

    /// Opens the regular file behind a held descriptor for writing.
    pub fn reopen_write(&self, held: BorrowedFd<'_>) -> Result<WriteFd> {
        match reopen(held, OFlags::RDWR | OFlags::NONBLOCK) {
            Err(Errno::ACCESS) => self.open_widened(held),
            other => other.map(WriteFd),
        }
    }

    /// Takes a file that [`Upper::create`] returned.
    pub fn created(&self, file: OwnedFd) -> WriteFd {
        WriteFd(file)
    }

    fn open_widened(&self, object: BorrowedFd<'_>) -> Result<WriteFd> {
        let _one_at_a_time = self.widening.lock();
        let stat = self.stat(object)?;
        if stat.uid != self.own.uid {
            return Err(Errno::ACCESS);
        }
        let mode = u32::from(stat.mode);
        self.set_mode(object, mode | 0o600)?;
        let opened = reopen(object, OFlags::RDWR | OFlags::NONBLOCK);
        self.set_mode(object, mode)?;
        opened.map(WriteFd)
    }

    /// Sets the permission bits of the object behind `object`.
    pub fn set_mode(&self, object: BorrowedFd<'_>, mode: u32) -> Result<()> {
        let path = markers::proc_path(object);
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
    }

    /// Sets user and group, each if given.
    pub fn set_owner(
        &self,
        object: BorrowedFd<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let (user, group) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(object, c"", user, group, AtFlags::EMPTY_PATH)
    }

    /// Sets the times.
    pub fn set_times(&self, object: BorrowedFd<'_>, times: Times) -> Result<()> {
        let times = Timestamps {
            last_access: timespec(times.atime),
            last_modification: timespec(times.mtime),
        };
        rustix::fs::utimensat(object, c"", &times, AtFlags::EMPTY_PATH)
    }

    /// Sets the real extended attribute `name`; `flags` are those of `setxattr(2)`.
    pub fn set_xattr(
        &self,
        object: BorrowedFd<'_>,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<()> {
        if markers::is_overlay_xattr(name) {
            return Err(Errno::OPNOTSUPP);
        }
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        rustix::fs::setxattr(markers::proc_path(object), name, value, flags)
    }

    /// Removes the real extended attribute `name`.
    pub fn remove_xattr(&self, object: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        if markers::is_overlay_xattr(name) {
            return Err(Errno::NODATA);
        }
        rustix::fs::removexattr(markers::proc_path(object), name)
    }

    /// Writes the directory `dir` (an `O_PATH` descriptor) to stable storage.
    pub fn sync_dir(&self, dir: BorrowedFd<'_>) -> Result<()> {
        rustix::fs::fsync(open(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY)?)
    }
}

impl WriteFd {
    /// Writes all of `data` at `offset` and returns its length, or less on a full disk.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < data.len() {
            match rustix::io::pwrite(&self.0, &data[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Cuts or extends the file to `size` bytes.
    pub fn truncate(&self, size: u64) -> Result<()> {
        rustix::fs::ftruncate(&self.0, size)
    }

    /// Does `fallocate(2)` with its own `mode` bits.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        let flags = FallocateFlags::from_bits_retain(mode);
        rustix::fs::fallocate(&self.0, flags, offset, length)
    }

    /// Copies up to `length` bytes from `source` at `from` to this file at `to`.
    pub fn copy_from(
        &self,
        source: BorrowedFd<'_>,
        from: u64,
        to: u64,
        length: usize,
    ) -> Result<usize> {
        let (mut from, mut to) = (from, to);
        rustix::fs::copy_file_range(source, Some(&mut from), &self.0, Some(&mut to), length)
    }
}

impl AsFd for WriteFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn timespec(change: TimeChange) -> Timespec {
    match change {
        TimeChange::Keep => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        TimeChange::Now => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        TimeChange::To(time) => Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanoseconds),
        },
    }
}
