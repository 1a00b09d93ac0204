// SPDX-License-Identifier: MIT OR Apache-2.0
//! The databases: the upper's, and what the lower's say.
//!
//! Invariant: a database that cannot be read is a fault, or is told as not checked; it is never taken
//! for one without rows.

use super::command::{Commands, quoted};
use super::fault::{Fault, Findings};
use crate::error::{Error, Kind, Result};
use crate::layout::{Layout, LowerStore};
use crate::metadata::lower::daemon::Patience;
use crate::metadata::lower::{Gap, open_possible};
use crate::metadata::{Reader, Source, open_regular};
use crate::store::StoreDir;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that is found by reading databases.
const ROWS: &[&str] = &["shadow", "row-without-files", "closure", "wrong-modes"];

/// The upper database, or why nothing is said about rows.
#[derive(Debug)]
pub(super) enum Upper {
    /// Its rows.
    Rows(Box<Reader>, BTreeSet<String>),
    /// It cannot be asked; that has been told.
    Unknown,
}

impl Upper {
    /// Whether the store path has a row; `None` if that is not known.
    pub(super) fn has(&self, path: &str) -> Option<bool> {
        match self {
            Upper::Rows(_, rows) => Some(rows.contains(path)),
            Upper::Unknown => None,
        }
    }
}

/// Opens the upper database and checks what it is itself.
pub(super) fn upper(layout: &Layout, commands: &Commands<'_>, found: &mut Findings) -> Upper {
    let Some(state) = layout.state.as_deref() else {
        let why = "mount options tell no state directory: give the store URL";
        found.not_checked(ROWS, &layout.merged, why);
        return Upper::Unknown;
    };
    modes(state, found);
    let opened = Reader::open(state).and_then(|reader| match reader {
        Some(reader) => reader.valid_paths().map(|rows| Some((reader, rows))),
        None => Ok(None),
    });
    match opened {
        Ok(Some((reader, rows))) => {
            return Upper::Rows(Box::new(reader), rows.into_iter().collect());
        }
        Ok(None) => found.fault(missing(state, commands)),
        Err(why) if is_forbidden(state) => found.not_checked(ROWS, state, why),
        Err(why) => found.fault(unusable(state, why.kind(), why.to_string())),
    }
    found.not_checked(ROWS, state, "the upper database cannot be read");
    Upper::Unknown
}

fn missing(state: &Path, commands: &Commands<'_>) -> Fault {
    let what = "there is no upper database yet; mounting makes it";
    let mut fault = Fault::new("database-missing", state, what)
        .means("no object of the upper is valid; the next garbage collection removes them all");
    fault.mend = commands.remounted();
    fault
}

/// Whether this user may not read the database.
fn is_forbidden(state: &Path) -> bool {
    let files = [
        "db/schema",
        "db/db.sqlite",
        "db/db.sqlite-wal",
        "db/db.sqlite-shm",
    ];
    files.iter().any(|name| {
        let opened = open_regular(&state.join(name));
        opened.is_err_and(|why| why.kind() == std::io::ErrorKind::PermissionDenied)
    })
}

fn unusable(state: &Path, kind: Kind, what: String) -> Fault {
    let fault = match kind {
        Kind::Corrupt => Fault::new("database-corrupt", state, what).means(
            "nobody knows which objects are valid; nothing is to be collected or mended first",
        ),
        _ => Fault::new("database-unusable", state, what)
            .means("Nix cannot open the store, or waits"),
    };
    Fault { kind, ..fault }
}

/// What Nix creates under its umask of 022, and what it keeps to itself.
fn modes(state: &Path, found: &mut Findings) {
    let table: [(&str, u32, u32); 7] = [
        ("db", 0o755, 0o022),
        ("db/db.sqlite", 0o644, 0o022),
        ("db/db.sqlite-wal", 0o644, 0o022),
        ("db/db.sqlite-shm", 0o644, 0o022),
        ("db/schema", 0o644, 0o022),
        ("db/big-lock", 0o600, 0o077),
        ("gc.lock", 0o600, 0o077),
    ];
    for (name, needed, forbidden) in table {
        let path = state.join(name);
        // A symlink has no modes of its own: what it leads to is judged, and changed.
        let Ok(path) = follow(path) else {
            continue;
        };
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        // What is of another kind is told where it is opened.
        if !metadata.is_file() && !metadata.is_dir() {
            continue;
        }
        let mode = metadata.mode() & 0o7777;
        if mode & needed == needed && mode & forbidden == 0 {
            continue;
        }
        let right = (mode | needed) & !forbidden & 0o777;
        let what = format!("mode {mode:04o} instead of {right:04o}");
        let fault = Fault::new("wrong-modes", &path, what)
            .means("who may read the store is locked out, or others may change what is valid, or hold locks")
            .mend(format!("chmod {right:04o} {}", quoted(&path)));
        found.fault(fault);
    }
}

/// Returns where a symlink leads, and any other path as it is.
fn follow(path: PathBuf) -> std::io::Result<PathBuf> {
    match path.is_symlink() {
        true => path.canonicalize(),
        false => Ok(path),
    }
}

/// What is known of the validity of lower objects.
#[derive(Debug)]
pub(super) struct Lower {
    source: Option<Box<dyn Source>>,
    /// Whether every part of the lower store can be asked.
    whole: bool,
    dir: Option<StoreDir>,
    /// Why it is not asked any more.
    failed: RefCell<Option<Error>>,
}

/// What is found by asking the lower store.
const OF_LOWER: &[&str] = &["shadow", "closure"];

impl Lower {
    /// Whether the store path is valid in the lower store; `None` if that is not known.
    pub(super) fn is_valid(&self, path: &str) -> Option<bool> {
        let dir = self.dir.as_ref()?;
        let Some(Ok(name)) = dir.parse(Path::new(path)) else {
            // Of another store directory, or no store path.
            return Some(false);
        };
        let valid = self.ask(|source| source.is_valid(&name))?;
        (valid || self.whole).then_some(valid)
    }

    /// What the store path refers to there, in order; empty if that is not known.
    pub(super) fn references(&self, path: &str) -> Vec<String> {
        let Some(dir) = &self.dir else {
            return Vec::new();
        };
        let Some(Ok(name)) = dir.parse(Path::new(path)) else {
            return Vec::new();
        };
        let info = self.ask(|source| source.path_info(&name)).flatten();
        let others = info.iter().flat_map(|info| info.others());
        others
            .map(|other| dir.store_path(other).display().to_string())
            .collect()
    }

    /// Asks, unless that has failed before: whoever does not answer is waited for once.
    fn ask<T>(&self, question: impl FnOnce(&dyn Source) -> Result<T>) -> Option<T> {
        let source = self.source.as_deref()?;
        if self.failed.borrow().is_some() {
            return None;
        }
        match question(source) {
            Ok(answer) => Some(answer),
            Err(why) => {
                self.failed.replace(Some(why));
                None
            }
        }
    }

    /// Ends the reading, and tells what could not be read of it. An error means that it was not whole.
    pub(super) fn finish(self, layout: &Layout, found: &mut Findings) -> Result<()> {
        if let Some(why) = self.failed.into_inner() {
            let (place, is_database) = match &layout.lower_store {
                LowerStore::Daemon { socket } => (socket.as_path(), false),
                LowerStore::Local { state, .. } => (state.as_path(), true),
                LowerStore::Directory | LowerStore::Overlay(_) => (layout.lower.as_path(), true),
            };
            if is_database && why.kind() == Kind::Corrupt {
                found.fault(unusable(place, why.kind(), why.to_string()));
            }
            found.not_checked(OF_LOWER, place, why);
        }
        self.source.map_or(Ok(()), |source| source.finish())
    }
}

/// Opens the metadata of the lower store, as far as that is possible.
pub(super) fn lower(layout: &Layout, found: &mut Findings) -> Result<Lower> {
    let mut whole = true;
    let source = open_possible(layout, Patience::short(), &mut |gap| {
        whole = false;
        match gap {
            Gap::Untold(place) => {
                let why = "the layout tells no metadata of the lower store";
                found.not_checked(OF_LOWER, place, why);
            }
            Gap::NoDatabase(state) => {
                found.not_checked(OF_LOWER, state, "the lower store has no database yet");
            }
            Gap::Unreadable(state, why) => lower_unread(state, &why, found),
            Gap::Unreachable(place, why) => found.not_checked(OF_LOWER, place, why),
        }
    })?;
    Ok(Lower {
        source,
        whole,
        dir: StoreDir::new(&layout.store_dir),
        failed: RefCell::default(),
    })
}

fn lower_unread(state: &Path, why: &Error, found: &mut Findings) {
    if !is_forbidden(state) {
        found.fault(unusable(state, why.kind(), why.to_string()));
    }
    found.not_checked(OF_LOWER, state, why);
}
