// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock of collectors, `STATE/gc.lock`: exclusive for one that collects or asks what is dead,
//! shared for who must not have objects deleted meanwhile.
//!
//! Invariant: while it is held exclusively, no client that follows the protocol gains a root unseen.

use crate::error::{Error, Result};
use crate::wait::{Hold, Interrupt, lock, try_lock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The way out where the state directory refuses.
pub(super) const REFUSED: &str = "run as the owner of the state directory";
const NAME: &str = "the garbage collector's lock";

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct GcLock {
    _file: File,
    state: PathBuf,
    hold: Hold,
}

impl GcLock {
    /// Takes the lock as a collector; waits for every other holder.
    pub fn exclusive(state: &Path, interrupt: &Interrupt) -> Result<GcLock> {
        GcLock::take(state, Hold::Exclusive, interrupt)
    }

    /// Keeps collectors away; waits for one that is at work.
    pub fn shared(state: &Path, interrupt: &Interrupt) -> Result<GcLock> {
        GcLock::take(state, Hold::Shared, interrupt)
    }

    /// Keeps collectors away; `None` if one is at work.
    pub fn try_shared(state: &Path) -> Result<Option<GcLock>> {
        let (file, path) = open(state)?;
        let taken = try_lock(&file, &path, Hold::Shared)?;
        Ok(taken.then(|| GcLock::of(file, state, Hold::Shared)))
    }

    fn take(state: &Path, hold: Hold, interrupt: &Interrupt) -> Result<GcLock> {
        let (file, path) = open(state)?;
        lock(&file, &path, hold, NAME, interrupt)?;
        Ok(GcLock::of(file, state, hold))
    }

    fn of(file: File, state: &Path, hold: Hold) -> GcLock {
        GcLock {
            _file: file,
            state: state.to_owned(),
            hold,
        }
    }

    /// Returns the state directory, if the lock is held as by a collector.
    pub(super) fn collecting(&self) -> Option<&Path> {
        (self.hold == Hold::Exclusive).then_some(&self.state)
    }
}

fn open(state: &Path) -> Result<(File, PathBuf)> {
    let path = state.join("gc.lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|why| Error::on("open", &path, why).hint(REFUSED))?;
    Ok((file, path))
}
