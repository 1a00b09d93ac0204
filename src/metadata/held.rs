// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which databases this process has open, and how.
//!
//! Invariant: none is open for reading and for writing at once. A process loses its locks of a file with
//! any descriptor of it that it closes, and the index of the log is mapped once for a process, so a
//! reader, which maps it read-only, would lock its own writer out.

use super::UNUSABLE;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Device and inode.
type Id = (u64, u64);

/// How many have a database open for reading, and for writing.
static HELD: Mutex<BTreeMap<Id, [usize; 2]>> = Mutex::new(BTreeMap::new());

/// What a database is open for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    Reading,
    Writing,
}

/// A database that is open, until dropped.
#[derive(Debug)]
pub(super) struct Held(Id, usize);

impl Held {
    /// Notes that the database at `path` is to be opened.
    pub(super) fn new(path: &Path, what: For) -> Result<Held> {
        let found = path.metadata();
        let found = found.map_err(|why| Error::on("open database", path, why).hint(UNUSABLE))?;
        let id = (found.dev(), found.ino());
        let (own, other) = match what {
            For::Reading => (0, 1),
            For::Writing => (1, 0),
        };
        let mut held = all();
        let counts = held.entry(id).or_default();
        if counts[other] > 0 {
            let (why, hint) = match what {
                For::Reading => ("it is open for writing in this process", "ask that"),
                For::Writing => ("it is open for reading in this process", "close that first"),
            };
            return Err(Error::on("open database", path, why).hint(hint));
        }
        counts[own] += 1;
        Ok(Held(id, own))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = all();
        let Some(counts) = held.get_mut(&self.0) else {
            return;
        };
        counts[self.1] = counts[self.1].saturating_sub(1);
        if *counts == [0, 0] {
            held.remove(&self.0);
        }
    }
}

fn all() -> MutexGuard<'static, BTreeMap<Id, [usize; 2]>> {
    // Counts are whole whatever happened to who held them.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
