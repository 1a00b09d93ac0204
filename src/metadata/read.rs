// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a database, the upper's or a lower's, while others use it.
//!
//! Invariant: nothing is created, written or locked for writing. What another process has committed
//! is seen, so the write-ahead log is read too, and who keeps the database to himself is heeded; a database that cannot be read whole is an error,
//! never one with fewer rows.

use super::database::{self, failed};
use super::held::{For, Held};
use super::schema::{self, Version};
use super::terms::Terms;
use super::{UNUSABLE, database::check_core_tables, may, regular};
use crate::error::{Error, Kind, Result};
use crate::store::percent;
use crate::wait::Interrupt;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustix::fs::{Access, FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a process that writes is waited for, where there is no log that spares readers this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the header of a database says how it is to be read: 2 stands for a write-ahead log.
const READ_VERSION: usize = 19;
const WITH_LOG: u8 = 2;

/// How the log of a database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// With its index, beside whoever writes it; or there is no need of one.
    Followed,
    /// Not at all, since there is nothing in it.
    Empty,
    /// Without an index, which nobody can make where nobody may write: somebody who wrote it ended
    /// badly, and left the rest of his rows there.
    Left,
}

/// A database, open for reading.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    terms: Terms,
    log: Log,
    /// Locked as by every reader of a database with a log. A process loses such locks with any
    /// descriptor of the file that it closes: this one closes last.
    file: File,
    _held: Option<Held>,
}

impl Reader {
    /// Opens the database of `state`; `None` if there is none yet.
    ///
    /// # Errors
    /// A database of another schema version, one that is missing although `db/schema` tells of it,
    /// one that is no database, and one that this user may not read.
    pub fn open(state: &Path) -> Result<Option<Reader>> {
        Reader::open_until(state, &Interrupt::never())
    }

    /// Opens the database as [`Reader::open`] does; whatever is waited for, then and later, `interrupt`
    /// ends it.
    pub fn open_until(state: &Path, interrupt: &Interrupt) -> Result<Option<Reader>> {
        let terms = Terms::new(PATIENCE, interrupt);
        let found = schema::read(state)?;
        found.refuse_others(state)?;
        let path = database::path(state);
        if found == Version::New && is_unwritten(&path) {
            return Ok(None);
        }
        let held = match path.try_exists() {
            Ok(true) => Some(Held::new(&path, For::Reading)?),
            // Told of in words of its own.
            Ok(false) | Err(_) => None,
        };
        let (file, log) = open_shared(&path, &terms)?;
        let name = percent::encode(path.as_os_str().as_bytes(), b"/");
        let mode = match log {
            // Opened otherwise, SQLite would create the log and its index.
            Log::Empty => "immutable=1",
            Log::Followed => "mode=ro&readonly_shm=1",
            // SQLite keeps the index in its memory if it has the database to itself, for which it
            // would want a lock of those who write.
            Log::Left => "mode=ro&vfs=unix-none",
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(format!("file:{name}?{mode}"), flags)
            .map_err(|error| failed("open", &path, &error, &terms))?;
        prepare(&mut connection, &path, log, &terms)
            .map_err(|error| failed("open", &path, &error, &terms))?;
        connection.set_prepared_statement_cache_capacity(database::STATEMENTS);
        // Without `db/schema` a database is being made, unless it has tables: then it has rows, which
        // stay valid.
        if found == Version::New && database::has_no_core_table(&connection, &path, &terms)? {
            return Ok(None);
        }
        check_core_tables(&connection, &path, &terms)?;
        let reader = Reader {
            connection,
            path,
            terms,
            log,
            file,
            _held: held,
        };
        reader.begin()?;
        Ok(Some(reader))
    }

    /// From now on all questions are about one state of the database, until [`Reader::rest`].
    pub(super) fn begin(&self) -> Result<()> {
        let begun = self.connection.execute_batch("BEGIN");
        begun.map_err(|error| self.unread(&error))
    }

    /// Lets go of that state, so that whoever writes can empty his log.
    pub(super) fn rest(&self) -> Result<()> {
        let ended = self.connection.execute_batch("COMMIT");
        ended.map_err(|error| self.unread(&error))
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the connection, for questions that change nothing.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns on which terms others are waited for.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the store path `path` has a row.
    pub fn is_valid(&self, path: &str) -> Result<bool> {
        let found = self
            .connection
            .prepare_cached("SELECT 1 FROM ValidPaths WHERE path = ?1")
            .and_then(|mut query| query.query_row([path], |_| Ok(())).optional());
        found
            .map(|row| row.is_some())
            .map_err(|error| self.unread(&error))
    }

    /// Returns every store path that has a row, in order.
    pub fn valid_paths(&self) -> Result<Vec<String>> {
        self.strings("SELECT path FROM ValidPaths ORDER BY path", [])
    }

    /// Returns the store paths that `path` refers to, itself excepted, in order.
    pub fn references(&self, path: &str) -> Result<Vec<String>> {
        self.strings(
            "SELECT target.path FROM Refs \
             JOIN ValidPaths AS source ON source.id = Refs.referrer \
             JOIN ValidPaths AS target ON target.id = Refs.reference \
             WHERE source.path = ?1 AND target.id != source.id ORDER BY target.path",
            [path],
        )
    }

    /// Returns the store paths with references to rows that do not exist, in order.
    pub fn dangling(&self) -> Result<Vec<String>> {
        self.strings(
            "SELECT DISTINCT source.path FROM Refs \
             JOIN ValidPaths AS source ON source.id = Refs.referrer \
             LEFT JOIN ValidPaths AS target ON target.id = Refs.reference \
             WHERE target.id IS NULL ORDER BY source.path",
            [],
        )
    }

    /// Checks that what was read was whole: nobody began a log meanwhile.
    pub fn finish(&self) -> Result<()> {
        let same = match self.log {
            Log::Followed => true,
            log => has_log(&self.file, &self.path)? && log_of(&self.path)? == log,
        };
        if !same {
            let what = format!("read database {}", self.path.display());
            return Err(
                Error::environment(what, "it was opened for writing meanwhile").hint("do it again"),
            );
        }
        Ok(())
    }

    fn strings<P: rusqlite::Params>(&self, query: &str, params: P) -> Result<Vec<String>> {
        let read = || {
            let mut query = self.connection.prepare_cached(query)?;
            let rows = query.query_map(params, |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        read().map_err(|error| self.unread(&error))
    }

    fn unread(&self, error: &rusqlite::Error) -> Error {
        failed("read", &self.path, error, &self.terms)
    }
}

/// Returns whether nothing was written to the database yet.
fn is_unwritten(path: &Path) -> bool {
    match path.metadata() {
        Ok(found) => found.is_file() && found.len() == 0,
        Err(why) => why.kind() == ErrorKind::NotFound && !path.is_symlink(),
    }
}

/// Opens the database file and takes the lock of a reader where a log is kept; without one, SQLite
/// does so itself. Tells how the log is to be read.
fn open_shared(path: &Path, terms: &Terms) -> Result<(File, Log)> {
    let file = regular::open(path).map_err(|why| match why.kind() {
        ErrorKind::NotFound if path.is_symlink() => {
            let why = "it is a symlink that leads nowhere";
            Error::on("open database", path, std::io::Error::other(why)).hint(UNUSABLE)
        }
        ErrorKind::NotFound => database::missing(path),
        _ => Error::on("open database", path, why).hint(UNUSABLE),
    })?;
    if !has_log(&file, path)? {
        return Ok((file, Log::Followed));
    }
    // Who keeps the database to himself may have a log without an index, or none yet.
    share(&file, path, terms)?;
    let log = log_of(path)?;
    Ok((file, log))
}

/// Takes a shared lock, waiting for no longer than there is patience.
fn share(file: &File, path: &Path, terms: &Terms) -> Result<()> {
    let mut turn = terms.turn(path);
    loop {
        match fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN | Errno::ACCESS) if turn.pause() => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                if let Some(interrupted) = terms.interrupted(path) {
                    return Err(interrupted);
                }
                let what = format!("read database {}", path.display());
                let why = "the database is locked: another process keeps it to itself";
                return Err(Error::environment(what, why).hint("wait for it, or end it"));
            }
            // Where there are no locks, nobody holds one.
            Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(()),
            Err(why) => return Err(Error::on("lock", path, why).hint(UNUSABLE)),
        }
    }
}

fn prepare(
    connection: &mut Connection,
    path: &Path,
    log: Log,
    terms: &Terms,
) -> rusqlite::Result<()> {
    database::be_patient(connection, path, terms)?;
    if log == Log::Left {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
    }
    Ok(())
}

/// Tells how the log of the database `path`, which keeps one, is to be read.
///
/// # Errors
/// A log without its index, where it could be put in order: that takes a process that writes.
fn log_of(path: &Path) -> Result<Log> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let size = |path: PathBuf| match path.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let why = std::io::Error::other("it is not a regular file");
            Err(Error::on("read", path, why).hint("remove it, once nobody uses the store"))
        }
        Ok(found) => Ok(Some(found.len())),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(Error::on("read", path, why).hint(UNUSABLE)),
    };
    // Also for a reader, SQLite would create a log that is missing, and change the mode of an empty one.
    match (size(beside("-wal"))?, size(beside("-shm"))?) {
        (None | Some(0), _) => return Ok(Log::Empty),
        (Some(_), Some(_)) => return Ok(Log::Followed),
        (Some(_), None) => {}
    }
    let log = beside("-wal");
    let places = [path.parent().unwrap_or(path), path, &log];
    if !places.iter().any(|place| may(place, Access::WRITE_OK)) {
        return Ok(Log::Left);
    }
    let what = format!("read database {}", path.display());
    Err(
        Error::environment(what, "its log has no index, so some process ended badly")
            .hint("open the store once for writing: nix-store --store URL --init"),
    )
}

/// Whether the database keeps a write-ahead log.
fn has_log(file: &File, path: &Path) -> Result<bool> {
    let mut header = [0; READ_VERSION + 1];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(header[READ_VERSION] == WITH_LOG),
        Err(why) if why.kind() == ErrorKind::UnexpectedEof => Err(Error::new(
            Kind::Corrupt,
            format!("open database {}", path.display()),
            "it is cut off",
        )
        .hint("restore it from a backup")),
        Err(why) => Err(Error::on("open database", path, why).hint(UNUSABLE)),
    }
}
