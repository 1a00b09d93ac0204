// SPDX-License-Identifier: MIT OR Apache-2.0
//! The databases: the upper's, and what the lower's say.
//!
//! Invariant: a database that cannot be read is a fault, or is told as not checked; it is never taken
//! for one without rows.

use super::command::{Commands, quoted};
use super::fault::{Fault, Findings};
use crate::error::{Kind, Result};
use crate::layout::{Layout, LowerStore};
use crate::metadata::{Reader, open_regular};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that is found by reading databases.
const ROWS: &[&str] = &["shadow", "row-without-files", "closure", "wrong-modes"];

/// The upper database, or why nothing is said about rows.
#[derive(Debug)]
pub(super) enum Upper {
    /// Its rows.
    Rows(Reader, BTreeSet<String>),
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
        Ok(Some((reader, rows))) => return Upper::Rows(reader, rows.into_iter().collect()),
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
pub(super) enum Lower {
    /// The database of a local store.
    Local(Reader),
    /// Another local overlay store: its upper database, then its lower's.
    Overlay(Option<Reader>, Box<Lower>),
    /// Nothing; that has been told.
    Unknown,
}

impl Lower {
    /// Whether the store path is valid in the lower store; `None` if that is not known.
    pub(super) fn is_valid(&self, path: &str) -> Result<Option<bool>> {
        match self {
            Lower::Local(reader) => reader.is_valid(path).map(Some),
            Lower::Overlay(Some(reader), _) if reader.is_valid(path)? => Ok(Some(true)),
            Lower::Overlay(_, inner) => inner.is_valid(path),
            Lower::Unknown => Ok(None),
        }
    }

    /// What the store path refers to there; empty if that is not known.
    pub(super) fn references(&self, path: &str) -> Result<Vec<String>> {
        match self {
            Lower::Local(reader) => reader.references(path),
            Lower::Overlay(Some(reader), _) if reader.is_valid(path)? => reader.references(path),
            Lower::Overlay(_, inner) => inner.references(path),
            Lower::Unknown => Ok(Vec::new()),
        }
    }

    /// Ends the reading; an error means that it was not whole.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Lower::Local(reader) => reader.finish(),
            Lower::Overlay(reader, inner) => {
                reader.map_or(Ok(()), Reader::finish)?;
                inner.finish()
            }
            Lower::Unknown => Ok(()),
        }
    }
}

/// Opens the metadata of the lower store.
pub(super) fn lower(layout: &Layout, found: &mut Findings) -> Lower {
    const UNKNOWN: &[&str] = &["shadow", "closure"];
    match &layout.lower_store {
        LowerStore::Directory => {
            let why = "the layout tells no metadata of the lower store";
            found.not_checked(UNKNOWN, &layout.lower, why);
            Lower::Unknown
        }
        LowerStore::Daemon { socket } => {
            let why = "the lower store is a daemon's, which is not asked; name its directory \
                       (lower-store=/DIR?read-only=true) to have its database read";
            found.not_checked(UNKNOWN, socket, why);
            Lower::Unknown
        }
        LowerStore::Local { state, .. } => match Reader::open(state) {
            Ok(Some(reader)) => Lower::Local(reader),
            Ok(None) => {
                found.not_checked(UNKNOWN, state, "the lower store has no database yet");
                Lower::Unknown
            }
            Err(why) => {
                lower_unread(state, &why, found);
                Lower::Unknown
            }
        },
        LowerStore::Overlay(inner) => {
            let reader = inner.state.as_deref().map(Reader::open);
            let reader = match reader.transpose() {
                Ok(reader) => reader.flatten(),
                Err(why) => {
                    lower_unread(inner.state.as_deref().unwrap_or(&inner.merged), &why, found);
                    return Lower::Unknown;
                }
            };
            Lower::Overlay(reader, Box::new(lower(inner, found)))
        }
    }
}

fn lower_unread(state: &Path, why: &crate::error::Error, found: &mut Findings) {
    const UNKNOWN: &[&str] = &["shadow", "closure"];
    if !is_forbidden(state) {
        found.fault(unusable(state, why.kind(), why.to_string()));
    }
    found.not_checked(UNKNOWN, state, why);
}
