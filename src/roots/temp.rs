// SPDX-License-Identifier: MIT OR Apache-2.0
//! This process's temporary roots, `STATE/temproots/PID`: what it is about to use or to add.
//!
//! Invariant: when [`TempRoots::add`] returns, no collector that follows the protocol deletes the
//! object as long as this process lives: every record is in the file before a collector is told of
//! it, so that the next one reads it there.

use super::asking::Caller;
use super::gc_lock::REFUSED;
use crate::error::{Error, Result};
use crate::store::{ObjectName, StoreDir};
use crate::wait::{Hold, Interrupt, lock, try_lock};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

/// How many processes may have one number, each in a namespace of its own.
const NAMESAKES: u32 = 1000;

/// What marks a file whose owner is gone: whoever locks it then must not use it.
pub(super) const GONE: &[u8] = b"d";

/// The directories in which this process keeps a file, with its number: a forked process begins anew.
static CLAIMED: Mutex<BTreeSet<(u32, PathBuf)>> = Mutex::new(BTreeSet::new());

/// The temporary roots of this process.
#[derive(Debug)]
pub struct TempRoots(Option<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    directory: PathBuf,
    store: StoreDir,
    interrupt: Interrupt,
    caller: Caller,
    claimed_by: u32,
    file: Option<Own>,
    /// What was added, to be written again if the file is lost.
    added: BTreeSet<ObjectName>,
}

/// The file, locked.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    file: File,
    /// A forked process shares the lock, and must make a file of its own.
    pid: u32,
    bytes: u64,
}

impl TempRoots {
    /// Begins to keep roots in `state`. The file is made with the first root.
    ///
    /// # Errors
    /// Refuses a second instance for the same state, whose end would be that of the file.
    pub fn open(state: &Path, store: &StoreDir, interrupt: Interrupt) -> Result<TempRoots> {
        let directory = state.join("temproots");
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .and_then(|()| fs::canonicalize(&directory))
            .map_err(|why| Error::on("create", &directory, why).hint(REFUSED))
            .and_then(|directory| {
                let pid = process::id();
                if !CLAIMED.lock().insert((pid, directory.clone())) {
                    let why = "this process keeps temporary roots there already";
                    return Err(Error::on("use", directory, why));
                }
                Ok(TempRoots(Some(Mutex::new(Kept {
                    directory,
                    store: store.clone(),
                    interrupt,
                    caller: Caller::new(state),
                    claimed_by: pid,
                    file: None,
                    added: BTreeSet::new(),
                }))))
            })
    }

    /// Keeps no roots: the state is only read, so nothing is added that could need one.
    pub fn none() -> TempRoots {
        TempRoots(None)
    }

    /// Keeps `object` and everything with its hash part from being deleted as long as this process
    /// lives. To be called before its validity is asked; waits while it is being deleted.
    pub fn add(&self, object: &ObjectName) -> Result<()> {
        match &self.0 {
            Some(kept) => kept.lock().add(object),
            None => {
                log::debug!("no temporary root for {object}: the state is only read");
                Ok(())
            }
        }
    }
}

impl Kept {
    fn add(&mut self, object: &ObjectName) -> Result<()> {
        if self.has_file()? {
            if self.added.contains(object) {
                return Ok(());
            }
            return self.record([object.clone()].into());
        }
        // Lost, or not made yet: whoever removed it may have let a collector past.
        let mut all = self.added.clone();
        all.insert(object.clone());
        self.file = None;
        self.file = Some(Own::create(&self.directory, &self.interrupt)?);
        self.record(all)
    }

    /// Tells whether the file is ours and where collectors find it.
    fn has_file(&self) -> Result<bool> {
        let Some(own) = &self.file else {
            return Ok(false);
        };
        Ok(own.pid == process::id() && own.is_in_place()?)
    }

    fn record(&mut self, objects: BTreeSet<ObjectName>) -> Result<()> {
        let paths: Vec<_> = objects
            .iter()
            .map(|one| self.store.store_path(one))
            .collect();
        if let Some(own) = &mut self.file {
            own.append(&paths)?;
        }
        self.caller.tell(&paths, &self.interrupt)?;
        self.added.extend(objects);
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // First, so that whoever claims the directory next meets no file of this one.
        self.file = None;
        let directory = std::mem::take(&mut self.directory);
        CLAIMED.lock().remove(&(self.claimed_by, directory));
    }
}

impl Own {
    /// Makes the file. A process of the same number in another namespace may have one too, which
    /// Nix would remove; ours then takes a name that begins with the number, which is all that
    /// readers ask of one.
    fn create(directory: &Path, interrupt: &Interrupt) -> Result<Own> {
        let pid = process::id();
        for n in 0..NAMESAKES {
            let path = match n {
                0 => directory.join(pid.to_string()),
                _ => directory.join(format!("{pid}-{n}")),
            };
            while remove_stale(&path)? {
                if let Some(file) = create_locked(&path, interrupt)? {
                    let bytes = 0;
                    return Ok(Own {
                        path,
                        file,
                        pid,
                        bytes,
                    });
                }
            }
        }
        let why = format!("{NAMESAKES} processes have the number {pid}");
        Err(Error::on("create temporary roots in", directory, why))
    }

    /// Tells whether collectors find this file.
    fn is_in_place(&self) -> Result<bool> {
        leads_to(&self.path, &self.file).map_err(|why| failed(&self.path, why))
    }

    /// Writes records. Half of one would spoil the next, and stop every collector: it is cut off.
    fn append(&mut self, paths: &[PathBuf]) -> Result<()> {
        let mut records = Vec::new();
        for path in paths {
            records.extend_from_slice(path.as_os_str().as_bytes());
            records.push(0);
        }
        if let Err(why) = self.file.write_all(&records) {
            if let Err(why) = self.file.set_len(self.bytes) {
                log::warn!("half a record stays in {}: {why}", self.path.display());
            }
            return Err(failed(&self.path, why));
        }
        self.bytes += u64::try_from(records.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.pid != process::id() {
            return;
        }
        // Removed while it is locked: nobody else can take it for a dead one's.
        match self.is_in_place() {
            Ok(true) => {
                if let Err(why) = fs::remove_file(&self.path) {
                    log::debug!("remove {}: {why}", self.path.display());
                }
            }
            Ok(false) => {}
            Err(why) => log::debug!("{why}"),
        }
    }
}

/// Removes what a process that is gone has left at `path`; `false` if its owner lives.
fn remove_stale(path: &Path) -> Result<bool> {
    let mut options = OpenOptions::new();
    let file = match options.read(true).write(true).open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(true),
        Err(why) => return Err(failed(path, why)),
    };
    if !try_lock(&file, path, Hold::Exclusive)? {
        return Ok(false);
    }
    remove_and_mark(path, &file)?;
    Ok(true)
}

/// Removes the locked `file`, and tells whoever waits for its lock that it is gone. The path may
/// lead to another one by now: that of a new process with the number.
pub(super) fn remove_and_mark(path: &Path, mut file: &File) -> Result<()> {
    let removed = match leads_to(path, file) {
        Ok(true) => fs::remove_file(path),
        other => other.map(drop),
    };
    match removed {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(failed(path, why)),
        Ok(()) | Err(_) => {}
    }
    file.write_all(GONE).map_err(|why| failed(path, why))
}

/// Tells whether `path` leads to the open `file`.
pub(super) fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

/// Creates and locks the file; `None` if somebody was faster, or a collector took it for a dead
/// one's before it was locked.
fn create_locked(path: &Path, interrupt: &Interrupt) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(true).mode(0o600);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(why) => return Err(failed(path, why).hint(REFUSED)),
    };
    lock(
        &file,
        path,
        Hold::Exclusive,
        "the temporary roots",
        interrupt,
    )?;
    let bytes = file.metadata().map_err(|why| failed(path, why))?.len();
    Ok((bytes == 0).then_some(file))
}

fn failed(path: &Path, why: io::Error) -> Error {
    Error::on("keep temporary roots in", path, why)
}
