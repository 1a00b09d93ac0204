// SPDX-License-Identifier: MIT OR Apache-2.0
//! The big lock: shared by whoever uses the database, exclusive for a schema upgrade.

use super::UNUSABLE;
use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The big lock, held shared until released.
#[derive(Debug)]
pub(super) struct BigLock(File);

impl BigLock {
    /// Takes the lock shared; waits, with a notice, while a schema upgrade runs.
    pub(super) fn shared(state: &Path) -> Result<BigLock> {
        let path = state.join("db/big-lock");
        let refused = |why: std::io::Error| Error::on("lock", &path, why).hint(UNUSABLE);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => {
                log::warn!(
                    "waiting for the lock {}: the schema is being upgraded",
                    path.display()
                );
                wait(&file).map_err(|errno| refused(errno.into()))?;
            }
            other => other.map_err(|errno| refused(errno.into()))?,
        }
        Ok(BigLock(file))
    }

    /// Releases the lock.
    pub(super) fn release(self) {
        drop(self.0);
    }
}

fn wait(file: &File) -> rustix::io::Result<()> {
    loop {
        match flock(file, FlockOperation::LockShared) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
