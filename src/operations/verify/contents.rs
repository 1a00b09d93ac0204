// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading objects and comparing them with what their rows say, several at once.
//!
//! Invariant: memory does not grow with the size of an object; and each thread stops within one buffer
//! of an interruption.

use crate::error::{Error, Kind, Result};
use crate::metadata::Recorded;
use crate::nar::{NarHasher, Place, dump};
use crate::roots::Interrupt;
use crate::store::Sha256;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How far it is; for who shows that.
#[derive(Debug, Default)]
pub struct Progress {
    /// Objects to look at.
    pub total: AtomicU64,
    /// Objects looked at.
    pub done: AtomicU64,
    /// Bytes of archives to read, as far as rows tell.
    pub bytes_total: AtomicU64,
    /// Bytes of archives read.
    pub bytes: AtomicU64,
}

/// What one object turned out to be.
#[derive(Debug)]
pub(super) enum Seen {
    /// Its digest and size.
    Hashed(Sha256, u64),
    /// What no store object holds.
    Unfit(Error),
    /// There is no such name.
    Gone,
    /// It could not be read.
    Unread(Error),
    /// The time had come to end.
    Interrupted,
}

/// A directory of objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Objects<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) path: &'a Path,
}

/// What all threads of one run share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) threads: usize,
    pub(super) interrupt: &'a Interrupt,
    pub(super) progress: &'a Progress,
}

impl Objects<'_> {
    /// Whether there is such a name.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.kind(name)?.is_some())
    }

    /// Returns what the name is, if there is one.
    fn kind(&self, name: &str) -> Result<Option<FileType>> {
        match rustix::fs::statat(self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(why) => Err(Error::on("look at", self.path.join(name), why)),
        }
    }

    /// Reads one object.
    pub(super) fn look(&self, name: &str, run: &Run<'_>) -> Seen {
        match self.has(name) {
            Ok(true) => {}
            Ok(false) => return Seen::Gone,
            Err(why) => return Seen::Unread(why),
        }
        let mut reader = Counted {
            hasher: NarHasher::new(),
            run: *run,
        };
        let place = Place::new(self.dir, name.as_bytes(), self.path);
        match place.and_then(|place| dump(&place, &mut reader)) {
            Ok(()) => {
                let (hash, size) = reader.hasher.finish();
                Seen::Hashed(hash, size)
            }
            Err(_) if run.interrupt.is_set() => Seen::Interrupted,
            Err(why) if why.kind() == Kind::Corrupt => Seen::Unfit(why),
            Err(why) => Seen::Unread(why),
        }
    }

    /// Reads the objects of `rows`; what was seen is in the order of `rows`.
    pub(super) fn look_at_all(&self, rows: &[Recorded], run: &Run<'_>) -> Result<Vec<Seen>> {
        look_at_all(rows, run, |name| self.look(name, run))
    }
}

/// The objects of a store, read where they are stored: the view may show from memory what a layer had
/// before it was damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) view: Objects<'a>,
    /// The upper and the lower, where the view is known to be one of them.
    pub(super) layers: Option<(Objects<'a>, Option<Objects<'a>>)>,
}

impl Shown<'_> {
    /// Reads one object.
    pub(super) fn look(&self, name: &str, run: &Run<'_>) -> Seen {
        match self.layer(name).map(|layer| layer.look(name, run)) {
            // The driver may read more than this user.
            None | Some(Seen::Unread(_) | Seen::Gone) => self.view.look(name, run),
            Some(seen) => seen,
        }
    }

    /// Reads the objects of `rows`; what was seen is in the order of `rows`.
    pub(super) fn look_at_all(&self, rows: &[Recorded], run: &Run<'_>) -> Result<Vec<Seen>> {
        look_at_all(rows, run, |name| self.look(name, run))
    }

    /// The layer that the view shows `name` from alone; `None` where it may merge both, or neither is
    /// known to have it, or the view does not show it.
    fn layer(&self, name: &str) -> Option<Objects<'_>> {
        let (upper, lower) = self.layers?;
        if !self.view.has(name).ok()? {
            return None;
        }
        let above = upper.kind(name).ok()?;
        let below = lower?.kind(name).ok()?;
        match (above, below) {
            (None, Some(_)) => lower,
            (Some(FileType::Directory), Some(FileType::Directory)) | (None, None) => None,
            (Some(FileType::CharacterDevice), _) => None,
            (Some(_), _) => Some(upper),
        }
    }
}

/// Has several threads `look` at the objects of `rows`, the largest first.
fn look_at_all(
    rows: &[Recorded],
    run: &Run<'_>,
    look: impl Fn(&str) -> Seen + Sync,
) -> Result<Vec<Seen>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(rows[at].nar_size));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(run.threads)
        .build()
        .map_err(|why| Error::environment("start threads", why))?;
    let next = AtomicUsize::new(0);
    let all: Mutex<Vec<Seen>> = Mutex::new(rows.iter().map(|_| Seen::Interrupted).collect());
    pool.broadcast(|_| {
        while !run.interrupt.is_set() {
            let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let seen = look(rows[at].name.as_str());
            run.progress.done.fetch_add(1, Ordering::Relaxed);
            all.lock()[at] = seen;
        }
    });
    Ok(all.into_inner())
}

/// Hashes, counts, and ends when it is time.
struct Counted<'a> {
    hasher: NarHasher,
    run: Run<'a>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.run.interrupt.is_set() {
            // Not the kind that is tried again.
            return Err(io::Error::other("interrupted"));
        }
        let count = bytes.len() as u64;
        self.run.progress.bytes.fetch_add(count, Ordering::Relaxed);
        self.hasher.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
