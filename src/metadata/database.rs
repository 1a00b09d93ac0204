// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections to the upper database, with Nix's settings.
//!
//! Invariant: foreign keys are enforced on every connection, since the closure of every row must
//! stay in the database; and closing the last one leaves `-wal` and `-shm` in place, since
//! readers that may not create them need them.

use super::held::{For, Held};
use super::schema::{self, CORE_TABLES};
use super::terms::Terms;
use super::{UNUSABLE, directories, regular, way_out};
use crate::error::{Error, Kind, Result};
use rusqlite::{Connection, ErrorCode, FileControl, OpenFlags};
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE_MODE: u32 = 0o644;

/// How long another writer is waited for, as by Nix.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);

/// How many statements stay compiled: all that there are.
pub(super) const STATEMENTS: usize = 32;

/// Nix's settings of a connection. The size limit is out of reach: with it, the last connection
/// to close leaves an empty log, not a stale one.
const SETTINGS: &str = "
PRAGMA foreign_keys = 1;
PRAGMA synchronous = normal;
PRAGMA main.journal_size_limit = 1099511627776;
PRAGMA wal_autocheckpoint = 40000;
";

const COUNT_TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";

/// An open upper database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    terms: Terms,
    /// Goes last, when the file is closed.
    _held: Held,
}

/// Returns where the database of `state` is.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join("db/db.sqlite")
}

impl Database {
    /// Opens the database for reading and writing; others are waited for on these terms.
    pub(super) fn open(state: &Path, terms: &Terms) -> Result<Database> {
        let path = path(state);
        match regular::check(&path) {
            Err(why) if is_absent(&path) => {
                log::debug!("{}: {why}", path.display());
                return Err(missing(&path));
            }
            Err(why) => return Err(Error::on("open database", &path, why).hint(UNUSABLE)),
            Ok(()) => {}
        }
        // Before SQLite has the file open: closing it again would cost this process its locks.
        let held = Held::new(&path, For::Writing)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .and_then(|connection| configure(connection, &path, terms))
            .map_err(|error| failed("open", &path, &error, terms))?;
        Ok(Database {
            connection,
            path,
            terms: terms.clone(),
            _held: held,
        })
    }

    /// Opens the database, made with its tables if they are missing.
    pub(super) fn create(state: &Path, terms: &Terms) -> Result<Database> {
        let path = path(state);
        create_file(&path)
            .map_err(|error| Error::on("create database", &path, error).hint(way_out(state)))?;
        let mut database = Database::open(state, terms)?;
        database
            .create_tables()
            .map_err(|error| failed("create", &path, &error, terms))?;
        Ok(database)
    }

    /// Returns the connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns on which terms others are waited for.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Waits for no longer than `patience` from now on.
    pub(super) fn wait_no_longer_than(&mut self, patience: Duration) -> rusqlite::Result<()> {
        self.terms.patience = patience;
        be_patient(&mut self.connection, &self.path, &self.terms)
    }

    /// Refuses a database that cannot be written, and has it keep a write-ahead log.
    pub(super) fn prepare_to_write(&self) -> Result<()> {
        let refused = |error| failed("open", &self.path, &error, &self.terms);
        // SQLite opens for reading what it may not write, and tells only whoever asks.
        if self
            .connection
            .is_readonly(rusqlite::MAIN_DB)
            .map_err(refused)?
        {
            let why = "the file may not be written";
            return Err(Error::on("open database", &self.path, why).hint(UNUSABLE));
        }
        use_wal(&self.connection, &self.path, &self.terms).map_err(refused)
    }

    /// Refuses a database without Nix's core tables.
    pub(super) fn check_core_tables(&self) -> Result<()> {
        check_core_tables(&self.connection, &self.path, &self.terms)
    }

    /// Returns the number that a setting of the connection has.
    #[cfg(test)]
    pub(super) fn pragma(&self, name: &str) -> i64 {
        let value = self
            .connection
            .pragma_query_value(None, name, |row| row.get(0));
        value.expect("the setting is a number")
    }

    fn create_tables(&mut self) -> rusqlite::Result<()> {
        use_wal(&self.connection, &self.path, &self.terms)?;
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        transaction.execute_batch(schema::CREATE)?;
        transaction.execute_batch(schema::NOTE_MIGRATION)?;
        transaction.commit()
    }
}

/// Refuses a database without Nix's core tables.
pub(super) fn check_core_tables(connection: &Connection, path: &Path, terms: &Terms) -> Result<()> {
    for table in CORE_TABLES {
        if !has_table(connection, path, table, terms)? {
            let what = format!("open database {}", path.display());
            return Err(
                Error::new(Kind::Corrupt, what, format!("the table {table} is missing"))
                    .hint("restore it from a backup"),
            );
        }
    }
    Ok(())
}

/// Returns whether nobody has made any of Nix's core tables yet.
pub(super) fn has_no_core_table(
    connection: &Connection,
    path: &Path,
    terms: &Terms,
) -> Result<bool> {
    for table in CORE_TABLES {
        if has_table(connection, path, table, terms)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_table(connection: &Connection, path: &Path, table: &str, terms: &Terms) -> Result<bool> {
    let count = connection.query_row(COUNT_TABLES, [table], |row| row.get::<_, i64>(0));
    let count = count.map_err(|error| failed("read", path, &error, terms))?;
    Ok(count > 0)
}

fn configure(
    mut connection: Connection,
    path: &Path,
    terms: &Terms,
) -> rusqlite::Result<Connection> {
    be_patient(&mut connection, path, terms)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(SETTINGS)?;
    let mut keep = 1;
    connection.file_control(Some(rusqlite::MAIN_DB), FileControl::PersistWal(&mut keep))?;
    Ok(connection)
}

/// Has others waited for on these terms.
pub(super) fn be_patient(
    connection: &mut Connection,
    path: &Path,
    terms: &Terms,
) -> rusqlite::Result<()> {
    let mut turn = terms.turn(path);
    connection.busy_handler(Some(move |tries| {
        if tries == 0 {
            turn.again();
        }
        turn.pause()
    }))
}

/// Switches to a write-ahead log, if there is none. SQLite does not ask the busy handler here, so
/// this does.
fn use_wal(connection: &Connection, path: &Path, terms: &Terms) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    if mode == "wal" {
        return Ok(());
    }
    let mut turn = terms.turn(path);
    loop {
        let mode: rusqlite::Result<String> =
            connection.query_row("PRAGMA main.journal_mode = wal", [], |row| row.get(0));
        match mode {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                if !turn.pause() {
                    return Err(error);
                }
            }
            // Filesystems without shared memory keep another mode, and that works too.
            other => return other.map(drop),
        }
    }
}

/// Creates an empty database file: SQLite's own creation would heed the umask.
fn create_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
    {
        Ok(file) => directories::set_mode(&file, FILE_MODE),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Explains why a database could not be used; who has it was waited for on these terms.
pub(super) fn failed(verb: &str, path: &Path, error: &rusqlite::Error, terms: &Terms) -> Error {
    if let Some(interrupted) = terms.interrupted(path).filter(|_| is_busy(error)) {
        return interrupted;
    }
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        _ => Kind::Environment,
    };
    // Without the file, SQLite says no more than that it cannot open it.
    if is_absent(path) {
        return missing(path);
    }
    let what = format!("{verb} database {}", path.display());
    let hint = match error.sqlite_error_code() {
        _ if kind == Kind::Corrupt => "restore it from a backup",
        _ if is_busy(error) => "another process keeps it locked: wait for it, or end it",
        Some(ErrorCode::DiskFull) => "make room on its filesystem; nothing was changed",
        Some(ErrorCode::SystemIoFailure) => {
            "see whether its filesystem is full, and the messages of the kernel"
        }
        Some(ErrorCode::ConstraintViolation) => "overstore check tells what is wrong with it",
        _ => UNUSABLE,
    };
    let failure = Error::new(kind, what, error).hint(hint);
    match is_busy(error) {
        true => failure.caused_by(LOCKED),
        false => failure,
    }
}

const LOCKED: i32 = Errno::AGAIN.raw_os_error();

/// Whether `error` says that another process kept the database to itself for longer than there was
/// patience: nothing was changed, and the same may work later.
pub fn is_locked(error: &Error) -> bool {
    error.errno() == Some(LOCKED)
}

fn is_absent(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(absent) if absent.kind() == ErrorKind::NotFound)
}

/// Whether another process was in the way, so that the same may work later.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed)
    )
}

/// The error of a database file that should be there.
pub(super) fn missing(path: &Path) -> Error {
    Error::new(
        Kind::Corrupt,
        format!("open database {}", path.display()),
        "db/schema says it exists, but it does not",
    )
    .hint("restore it from a backup")
}
