// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who adds or builds an object: `MERGED/NAME.lock`.
//!
//! Invariant: a lock counts only while its path leads to the locked file; whoever removes the file
//! marks it, for those that wait with it open. Several are taken in the order of their names.

use super::temp::{GONE, leads_to, remove_and_mark};
use crate::error::{Error, Result};
use crate::store::ObjectName;
use crate::wait::{Hold, Interrupt, lock, try_lock};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How often a lock file may be gone when its lock is ours, before the filesystem is at fault.
const TRIES: usize = 10_000;

/// The locks of some objects; released, and their files removed, when this is dropped.
#[derive(Debug)]
pub struct PathLocks(Vec<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
}

impl PathLocks {
    /// Locks `objects` in the merged directory; waits for others who have them. A temporary root of
    /// each must have been added: a collector removes the lock files of dead objects.
    pub fn take(
        merged: &Path,
        objects: &BTreeSet<ObjectName>,
        interrupt: &Interrupt,
    ) -> Result<PathLocks> {
        let mut locks = PathLocks(Vec::with_capacity(objects.len()));
        for object in objects {
            let path = lock_path(merged, object);
            let held = Held::take(path, |file, path| {
                let name = "the lock of an object:";
                lock(file, path, Hold::Exclusive, name, interrupt).map(|()| true)
            })?;
            locks.0.extend(held);
        }
        Ok(locks)
    }

    /// Locks `objects`; `None`, without any lock, if others have one of them.
    pub fn try_take(merged: &Path, objects: &BTreeSet<ObjectName>) -> Result<Option<PathLocks>> {
        let mut locks = PathLocks(Vec::with_capacity(objects.len()));
        for object in objects {
            let path = lock_path(merged, object);
            let held = Held::take(path, |file, path| try_lock(file, path, Hold::Exclusive))?;
            match held {
                Some(held) => locks.0.push(held),
                None => return Ok(None),
            }
        }
        Ok(Some(locks))
    }
}

fn lock_path(merged: &Path, object: &ObjectName) -> PathBuf {
    merged.join(format!("{object}.lock"))
}

impl Held {
    /// Takes the lock by `how`; `None` if that says no.
    fn take(path: PathBuf, how: impl Fn(&File, &Path) -> Result<bool>) -> Result<Option<Held>> {
        for _ in 0..TRIES {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|why| Error::on("lock", &path, why))?;
            if !how(&file, &path)? {
                return Ok(None);
            }
            if is_current(&file, &path).map_err(|why| Error::on("lock", &path, why))? {
                return Ok(Some(Held { path, file }));
            }
        }
        Err(Error::on("lock", &path, "its lock file never stays"))
    }

    fn remove(&mut self) -> io::Result<()> {
        // A collector may have removed it, and somebody else made a new one.
        if is_current(&self.file, &self.path)? {
            fs::remove_file(&self.path)?;
            self.file.write_all(GONE)?;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(why) = self.remove() {
            log::warn!("remove {}: {why}", self.path.display());
        }
    }
}

/// Tells whether the locked `file` is what others will lock by `path`.
fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    Ok(file.metadata()?.len() == 0 && leads_to(path, file)?)
}

/// Removes the lock file `path`, whose object nobody wants; `false` if somebody has its lock.
pub fn remove_abandoned_lock(path: &Path) -> Result<bool> {
    let failed = |why: io::Error| Error::on("remove lock file", path, why);
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|why| failed(io::Error::other(why)))?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(flags);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(true),
        Err(why) => return Err(failed(why)),
    };
    if !try_lock(&file, path, Hold::Exclusive)? {
        return Ok(false);
    }
    // Somebody may have replaced it; the next collector meets that one.
    if is_current(&file, path).map_err(failed)? {
        remove_and_mark(path, &file)?;
    }
    Ok(true)
}
