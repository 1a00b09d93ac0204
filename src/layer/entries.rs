// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading one directory of a layer in the backing filesystem's own order and positions.
//!
//! Invariant: a directory that cannot be read to its end is an error, never a short listing.

use super::{Devices, Errno, Ino, Kind, Result, Tree};
use rustix::fs::{FileType, RawDir, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes asked of one `getdents64`; the kernel's FUSE client asks for no more at a time.
const BUFFER_BYTES: usize = 32 * 1024;

/// What stands for a number that is not told: nothing, and `FUSE_UNKNOWN_INO` of libfuse.
const UNTOLD: [u64; 2] = [0, 0xFFFF_FFFF];

/// One entry of a layer's directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its number in the merged view.
    pub ino: Ino,
    /// What it is, where the filesystem told.
    pub kind: Option<Kind>,
    /// The position of the entry after this one.
    pub next: u64,
}

impl DirEntry<'_> {
    /// Whether this is `.` or `..`.
    pub fn is_dots(&self) -> bool {
        self.name == b"." || self.name == b".."
    }
}

/// Whether a reader of entries wants more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Go on with the next entry.
    More,
    /// The reply is full.
    Full,
}

impl Tree {
    /// Calls `each` for the entries of `dir` from `position` (0 or some entry's `next`), `.` and
    /// `..` among them, until it says [`Listed::Full`] or the directory ends.
    pub fn read_dir<E: From<super::Errno>>(
        &self,
        dir: BorrowedFd<'_>,
        position: u64,
        mut each: impl FnMut(DirEntry<'_>) -> std::result::Result<Listed, E>,
    ) -> std::result::Result<(), E> {
        let stream = self.open_listing(dir)?;
        if position != 0 {
            rustix::fs::seek(&stream, SeekFrom::Start(position))?;
        }
        let device = super::stat::device_of(&stream)?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(stream.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(dead_is_stale)?;
            let name = entry.file_name().to_bytes();
            let kind = kind_of(entry.file_type());
            let ino = self.entry_ino(dir, name, kind, device, entry.ino())?;
            let listed = each(DirEntry {
                name,
                ino,
                kind,
                next: entry.next_entry_cookie(),
            })?;
            if listed == Listed::Full {
                break;
            }
        }
        Ok(())
    }

    /// The number that `stat` tells for an entry. Directories of btrfs may be subvolumes, whose
    /// number in the listing is another one; programs that serve FUSE filesystems may not tell it.
    fn entry_ino(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: Option<Kind>,
        device: (u32, u32),
        ino: u64,
    ) -> Result<Ino> {
        let plain = || self.devices().ino(device, ino);
        let subvolume = self.filesystem().has_subvolumes() && kind == Some(Kind::Directory);
        if !subvolume && !UNTOLD.contains(&ino) {
            return Ok(plain());
        }
        Ok(self.probe(dir, name)?.map_or_else(plain, |stat| stat.ino))
    }

    fn open_listing(&self, dir: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd> {
        use rustix::fs::OFlags;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        super::tree::open_quietly(dir, b".", flags).map_err(dead_is_stale)
    }

    fn devices(&self) -> &Devices {
        &self.devices
    }
}

/// A directory that was removed has no entries to tell of: ENOENT, which readers of directories
/// take for the end.
fn dead_is_stale(errno: Errno) -> Errno {
    if errno == Errno::NOENT {
        Errno::STALE
    } else {
        errno
    }
}

fn kind_of(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::Regular),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::Socket => Some(Kind::Socket),
        FileType::Unknown => None,
    }
}
