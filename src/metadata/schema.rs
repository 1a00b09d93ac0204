// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schema version 10: the version file and the core tables.
//!
//! Invariant: the version file appears after the tables and in one step, so that whoever reads
//! 10 finds them.

use super::directories::set_mode;
use super::{UNUSABLE, regular};
use crate::error::{Error, Kind, Result};
use crate::wait::nap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The schema that Nix has had since 2.0 and that is read and written here.
const VERSION: u64 = 10;

const FILE_MODE: u32 = 0o644;

/// The tables that every database of this version has.
pub(super) const CORE_TABLES: [&str; 3] = ["ValidPaths", "Refs", "DerivationOutputs"];

/// Creates the core tables where missing; several processes may do so at once, Nix among them.
///
/// `IndexReferrer`, which the primary key of `Refs` makes superfluous and which Nix 2.35 drops, is
/// left out; the row in `SchemaMigrations` says so, which saves that Nix an exclusive upgrade.
pub(super) const CREATE: &str = "
CREATE TABLE IF NOT EXISTS ValidPaths (
    id               INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    path             TEXT UNIQUE NOT NULL,
    hash             TEXT NOT NULL,
    registrationTime INTEGER NOT NULL,
    deriver          TEXT,
    narSize          INTEGER,
    ultimate         INTEGER,
    sigs             TEXT,
    ca               TEXT
);
CREATE TABLE IF NOT EXISTS Refs (
    referrer  INTEGER NOT NULL,
    reference INTEGER NOT NULL,
    PRIMARY KEY (referrer, reference),
    FOREIGN KEY (referrer) REFERENCES ValidPaths (id) ON DELETE CASCADE,
    FOREIGN KEY (reference) REFERENCES ValidPaths (id) ON DELETE RESTRICT
);
CREATE INDEX IF NOT EXISTS IndexReference ON Refs (reference);
CREATE TRIGGER IF NOT EXISTS DeleteSelfRefs BEFORE DELETE ON ValidPaths
BEGIN
    DELETE FROM Refs WHERE referrer = old.id AND reference = old.id;
END;
CREATE TABLE IF NOT EXISTS DerivationOutputs (
    drv  INTEGER NOT NULL,
    id   TEXT NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (drv, id),
    FOREIGN KEY (drv) REFERENCES ValidPaths (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS IndexDerivationOutputs ON DerivationOutputs (path);
CREATE TABLE IF NOT EXISTS SchemaMigrations (
    migration TEXT PRIMARY KEY NOT NULL
);
";

/// Notes that `IndexReferrer` is gone, unless another creator put it there.
pub(super) const NOTE_MIGRATION: &str = "
INSERT OR IGNORE INTO SchemaMigrations (migration)
SELECT '20260309-drop-redundant-indexreferrer'
WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'IndexReferrer');
";

/// What the version file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Nothing, or 0: the database is still to be made.
    New,
    /// The version that is known here.
    Current,
    /// Another one.
    Other(u64),
}

impl Version {
    /// Refuses a version that is not known here.
    pub(super) fn refuse_others(self, state: &Path) -> Result<()> {
        let Version::Other(number) = self else {
            return Ok(());
        };
        let hint = if number > VERSION {
            "use a newer overstore"
        } else {
            "open the store once with a current Nix, which upgrades it"
        };
        let why = format!("it has schema {number}, and only schema {VERSION} is supported");
        Err(Error::on("open database", super::database::path(state), why).hint(hint))
    }
}

/// How often and how long to wait for the rest of an empty version file.
const EMPTY_TRIES: u32 = 100;
const EMPTY_WAIT: Duration = Duration::from_millis(10);

/// Reads the version file.
pub(super) fn read(state: &Path) -> Result<Version> {
    let path = file(state);
    for _ in 0..EMPTY_TRIES {
        let text = match contents(&path) {
            Ok(text) => text,
            Err(error) if is_absence(&error) => return Ok(Version::New),
            Err(error) => return Err(Error::on("read", path, error).hint(UNUSABLE)),
        };
        if !text.is_empty() {
            return parse(&text).ok_or_else(|| corrupt(&path, "it holds no number"));
        }
        // Nix empties the file before it writes the number: give it time.
        nap(EMPTY_WAIT);
    }
    Err(corrupt(&path, "it is empty"))
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    regular::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Writes the version file: complete or not at all.
pub(super) fn write(state: &Path) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = file(state);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = state.join(format!("db/schema.new-{}-{number}", std::process::id()));
    let written = write_new(&temporary).and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|error| {
        if let Err(left) = std::fs::remove_file(&temporary) {
            log::debug!("{} may be left behind: {left}", temporary.display());
        }
        Error::on("write", path, error).hint(UNUSABLE)
    })
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file: File = options
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    set_mode(&file, FILE_MODE)?;
    write!(file, "{VERSION}")?;
    file.sync_all()
}

fn file(state: &Path) -> PathBuf {
    state.join("db/schema")
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn parse(text: &[u8]) -> Option<Version> {
    match std::str::from_utf8(text).ok()?.trim().parse().ok()? {
        0 => Some(Version::New),
        VERSION => Some(Version::Current),
        other => Some(Version::Other(other)),
    }
}

fn corrupt(path: &Path, why: &str) -> Error {
    Error::new(Kind::Corrupt, format!("read {}", path.display()), why)
        .hint("if db.sqlite beside it is sound, write 10 into it")
}
