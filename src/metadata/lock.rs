// SPDX-License-Identifier: MIT OR Apache-2.0
//! The big lock: shared by whoever uses the database, exclusive for a schema upgrade.

use super::way_out;
use crate::error::{Error, Result};
use crate::wait::{Hold, Interrupt, lock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The big lock, held shared until released.
#[derive(Debug)]
pub(super) struct BigLock(File);

impl BigLock {
    /// Takes the lock shared; waits, with a notice, while a schema upgrade runs.
    pub(super) fn shared(state: &Path, interrupt: &Interrupt) -> Result<BigLock> {
        let path = state.join("db/big-lock");
        let refused = |why: std::io::Error| Error::on("lock", &path, why).hint(way_out(state));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(refused)?;
        let name = "the lock of schema upgrades";
        lock(&file, &path, Hold::Shared, name, interrupt).map_err(|why| match why.errno() {
            Some(_) if interrupt.is_set() => why,
            _ => why.hint(way_out(state)),
        })?;
        Ok(BigLock(file))
    }

    /// Releases the lock.
    pub(super) fn release(self) {
        drop(self.0);
    }
}
