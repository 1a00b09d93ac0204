// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data of regular files.
//!
//! Invariant: [`MergedFs::writable`] is the only way to a descriptor that can change anything,
//! and it answers EROFS for everything that is not the upper's. The kernel gates none of the
//! operations here by layer: every one that writes goes through it.

use super::locate::{Place, gone_is_stale};
use super::node::{Held, NodeId};
use super::{FileFd, MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, LayerId, Stat, WriteFd};
use rustix::fs::SeekFrom;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Bytes that are copied at once where this takes memory.
const MOST_COPIED: usize = 1 << 20;

impl AsFd for FileFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            FileFd::Read(fd) => fd.as_fd(),
            FileFd::Write(fd) => fd.as_fd(),
        }
    }
}

impl MergedFs {
    /// Reads up to the length of `buffer` at `offset` and returns the count, less at the end.
    pub fn read(&self, id: NodeId, offset: u64, buffer: &mut [u8]) -> Outcome<usize> {
        self.surviving(id, || self.read_once(id, offset, buffer))
    }

    fn read_once(&self, id: NodeId, offset: u64, buffer: &mut [u8]) -> Outcome<usize> {
        let (mut file, mut kept) = self.readable(id)?;
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) => (file, kept) = self.reopened(id, &file)?,
                Err(errno) => return Err(errno),
            }
        }
        if done < buffer.len() {
            self.is_its_end(id, &file, offset + done as u64)?;
        }
        // A file that fits one request is not asked for again: the kernel caches it.
        let more_to_come = offset > 0 || done == buffer.len();
        if more_to_come && let Some(layer) = kept {
            self.files.put((id, layer), file);
        }
        Ok(done)
    }

    /// Opens a file once more in the other way, if there is one; like [`Self::readable`].
    fn reopened(&self, id: NodeId, file: &FileFd) -> Outcome<(FileFd, Option<LayerId>)> {
        let layer = self.table.with(id, |node| node.layer())?;
        let cached = self.tree(layer).reopen_cached(file.as_fd())?;
        let cached = cached.ok_or(Errno::INVAL)?;
        Ok((FileFd::Read(Arc::new(cached)), Some(layer)))
    }

    /// Requires that a read which came up short at `end` did so because the file ends there. The
    /// kernel would take what we answer for the file's length.
    fn is_its_end(&self, id: NodeId, file: &FileFd, end: u64) -> Outcome<()> {
        let tree = self.tree(self.table.with(id, |node| node.layer())?);
        if tree.filesystem().cuts_short() && tree.stat(file.as_fd())?.size > end {
            return Err(Errno::IO);
        }
        Ok(())
    }

    /// Writes `data` at `offset` and returns the count. `from_cache` marks pages of a mapping.
    pub fn write(&self, id: NodeId, offset: u64, data: &[u8], from_cache: bool) -> Outcome<usize> {
        let written = self
            .writable(id)
            .and_then(|file| self.room.wait_for(|| file.write_at(data, offset)));
        if written.is_err() && from_cache {
            // The page cache shows what was not written: every reader would see it.
            self.notify(Notice::Data {
                node: id,
                offset,
                length: data.len() as u64,
            });
        }
        written
    }

    /// The gate: returns a descriptor for writing to a regular file of the upper.
    pub(super) fn writable(&self, id: NodeId) -> Outcome<Arc<WriteFd>> {
        self.surviving(id, || self.open_writable(id))
    }

    fn open_writable(&self, id: NodeId) -> Outcome<Arc<WriteFd>> {
        let key = (id, LayerId::Upper);
        if let Some(FileFd::Write(file)) = self.files.get(key) {
            return Ok(file);
        }
        let located = self.locate(id)?;
        if located.layer == LayerId::Lower {
            return Err(Errno::ROFS);
        }
        if located.kind != Kind::Regular {
            return Err(Errno::INVAL);
        }
        let file = match &located.place {
            Place::Root => return Err(Errno::ISDIR),
            Place::Held(Held::Writable(file, _)) => return Ok(Arc::clone(file)),
            Place::Held(Held::Object(held, _)) => self.upper.reopen_write(held.as_fd())?,
            Place::Named(dir, name) => {
                let file = self
                    .upper
                    .open_write(dir.as_fd(), name)
                    .map_err(gone_is_stale)?;
                let stat = located.own(self.upper.stat(file.as_fd())?)?;
                self.refuse_metacopy(file.as_fd(), &stat)?;
                file
            }
        };
        let file = Arc::new(file);
        self.files.put(key, FileFd::Write(Arc::clone(&file)));
        Ok(file)
    }

    /// Returns a descriptor for reading, and the layer to keep it under if it is a new one.
    fn readable(&self, id: NodeId) -> Outcome<(FileFd, Option<LayerId>)> {
        let located = self.locate(id)?;
        let layer = located.layer;
        if let Some(file) = self.files.get((id, layer)) {
            return Ok((file, None));
        }
        if located.kind != Kind::Regular {
            return Err(Errno::INVAL);
        }
        let tree = self.tree(layer);
        let opened = match &located.place {
            Place::Root => return Err(Errno::ISDIR),
            Place::Held(Held::Writable(file, _)) => {
                return Ok((FileFd::Write(Arc::clone(file)), None));
            }
            Place::Held(Held::Object(held, _)) => tree.reopen_file(held.as_fd()),
            Place::Named(dir, name) => tree.open_file(dir.as_fd(), name).map_err(gone_is_stale),
        };
        match opened {
            // Opened when the mode still allowed it; the driver may be the owner (see `open_write`).
            Err(Errno::ACCESS) if layer == LayerId::Upper => {
                Ok((FileFd::Write(self.writable(id)?), None))
            }
            Err(errno) => Err(errno),
            Ok(file) => {
                let stat = tree.stat(file.as_fd())?;
                if let Place::Named(..) = located.place {
                    located.own(stat)?;
                }
                if layer == LayerId::Upper {
                    self.refuse_metacopy(file.as_fd(), &stat)?;
                }
                Ok((FileFd::Read(Arc::new(file)), Some(layer)))
            }
        }
    }

    /// An upper file may be a shell whose data is in the lower. Such a file owns no block of data.
    fn refuse_metacopy(&self, file: BorrowedFd<'_>, stat: &Stat) -> Outcome<()> {
        let room_for_marks = 2 * u64::from(stat.blksize) / 512;
        let may_be_empty = stat.size > 0 && stat.blocks <= room_for_marks;
        if may_be_empty && self.upper.marks(file)?.metacopy {
            log::error!(
                "inode {} in the upper has an overlay metacopy mark, which is not followed; \
                 mount it with OverlayFS and metacopy=on, and copy it",
                stat.ino.0
            );
            return Err(Errno::IO);
        }
        Ok(())
    }

    /// Does `fallocate(2)` on an upper file.
    pub fn fallocate(&self, id: NodeId, mode: u32, offset: u64, length: u64) -> Outcome<()> {
        let file = self.writable(id)?;
        self.room.wait_for(|| file.allocate(mode, offset, length))
    }

    /// Finds data (`data`) or a hole from `offset` on.
    pub fn seek(&self, id: NodeId, offset: u64, data: bool) -> Outcome<u64> {
        let (file, _) = self.surviving(id, || self.readable(id))?;
        let from = if data {
            SeekFrom::Data(offset)
        } else {
            SeekFrom::Hole(offset)
        };
        rustix::fs::seek(&file, from)
    }

    /// Copies up to `length` bytes between two files; the target must be the upper's.
    pub fn copy_range(
        &self,
        source: (NodeId, u64),
        target: (NodeId, u64),
        length: usize,
    ) -> Outcome<usize> {
        let to = self.writable(target.0)?;
        let layer = self.table.with(source.0, |node| node.layer())?;
        if self.tree(layer).filesystem().cuts_short() {
            // Only our own reading notices that.
            let mut buffer = vec![0; length.min(MOST_COPIED)];
            let count = self.read(source.0, source.1, &mut buffer)?;
            return to.write_at(&buffer[..count], target.1);
        }
        let (from, _) = self.surviving(source.0, || self.readable(source.0))?;
        to.copy_from(from.as_fd(), source.1, target.1, length)
    }

    /// Brings a file to stable storage; the lower's is there already.
    pub fn fsync(&self, id: NodeId, data_only: bool) -> Outcome<()> {
        let located = self.locate(id)?;
        if located.layer == LayerId::Lower || located.kind != Kind::Regular {
            return Ok(());
        }
        let (file, _) = self.readable(id)?;
        if data_only {
            rustix::fs::fdatasync(&file)
        } else {
            rustix::fs::fsync(&file)
        }
    }

    /// Brings the upper side of a directory to stable storage.
    pub fn fsync_dir(&self, id: NodeId) -> Outcome<()> {
        match self.sides(id)?.upper {
            Some(dir) => self.upper.sync_dir(dir.as_fd()),
            None => Ok(()),
        }
    }

    /// Keeps the descriptor that made a file: it may be written to whatever its mode says.
    pub(super) fn keep_created(&self, id: NodeId, file: OwnedFd) {
        let file = Arc::new(self.upper.created(file));
        self.files.put((id, LayerId::Upper), FileFd::Write(file));
    }
}
