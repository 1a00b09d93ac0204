// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to one of Nix's databases, however it was opened.
//!
//! Invariant: one statement answers one question, so that an answer never mixes two states; and a row
//! that cannot be understood is an error with its database, path and column, never a missing one.

use super::columns::{self, Names, Parsed};
use super::database::{failed, is_busy};
use super::realisation::Realisation;
use super::source::Source;
use super::terms::Terms;
use crate::error::{Error, Kind, Result};
use crate::store::{HASH_PART_BYTES, ObjectName, Outputs, PathInfo, base32};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

const INFO: &str = "
SELECT object.hash, object.registrationTime, object.deriver, object.narSize, object.ultimate,
    object.sigs, object.ca, Refs.reference, target.path
FROM ValidPaths AS object
LEFT JOIN Refs ON Refs.referrer = object.id
LEFT JOIN ValidPaths AS target ON target.id = Refs.reference
WHERE object.path = ?1";

const IS_VALID: &str = "SELECT 1 FROM ValidPaths WHERE path = ?1";

const REFERRERS: &str = "
SELECT source.path
FROM ValidPaths AS object
JOIN Refs ON Refs.reference = object.id
LEFT JOIN ValidPaths AS source ON source.id = Refs.referrer
WHERE object.path = ?1";

const VALID_DERIVERS: &str = "
SELECT drv.path
FROM DerivationOutputs
JOIN ValidPaths AS drv ON drv.id = DerivationOutputs.drv
WHERE DerivationOutputs.path = ?1";

const OUTPUTS: &str = "
SELECT DerivationOutputs.id, DerivationOutputs.path
FROM ValidPaths AS drv
JOIN DerivationOutputs ON DerivationOutputs.drv = drv.id
WHERE drv.path = ?1";

const FROM_PREFIX: &str = "SELECT path FROM ValidPaths WHERE path >= ?1 ORDER BY path LIMIT 1";

const ALL: &str = "SELECT path FROM ValidPaths";

/// The way out of a row that says nothing sensible.
const CORRECT: &str = "correct that row with sqlite3, or restore the database from a backup";

/// The rows of an open database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) file: &'a Path,
    pub(super) names: &'a Names,
    /// On which others were waited for.
    pub(super) terms: &'a Terms,
    /// Set when another process was in the way, so that all can be done again.
    pub(super) busy: Option<&'a Cell<bool>>,
}

/// What keeps such rows.
pub(super) trait Rowed: fmt::Debug {
    /// Returns the rows.
    fn rows(&self) -> Rows<'_>;

    /// Checks that what was read was whole.
    fn finish_rows(&self) -> Result<()> {
        Ok(())
    }
}

impl<T: Rowed> Source for T {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        self.rows().path_info(name)
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        self.rows().is_valid(name)
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.rows().referrers(name)
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let rows = self.rows();
        rows.objects(VALID_DERIVERS, [rows.names.path(name)], "ValidPaths.path")
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        self.rows().outputs(drv)
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        self.rows().with_hash_part(hash_part)
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        self.rows().objects(ALL, [], "ValidPaths.path")
    }

    fn realisation(&self, derivation: &str, output: &str) -> Result<Option<Realisation>> {
        self.rows().realisation(derivation, output)
    }

    fn finish(&self) -> Result<()> {
        self.finish_rows()
    }
}

impl<'a> Rows<'a> {
    pub(super) fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        let path = self.names.path(name);
        let mut query = self.prepare(INFO)?;
        let mut rows = query.query([&path]).map_err(|why| self.unread(&why))?;
        let mut info = None;
        while let Some(row) = rows.next().map_err(|why| self.unread(&why))? {
            let info = match &mut info {
                Some(info) => info,
                none => none.insert(self.info(name, &path, row)?),
            };
            if self.value(&path, "Refs.reference", row, 7)? != ValueRef::Null {
                let target = self.value(&path, "Refs.reference", row, 8)?;
                if target == ValueRef::Null {
                    return Err(self.dangling(&path));
                }
                let target = self.names.parse(target);
                let target = target.map_err(|why| self.corrupt(&path, "Refs.reference", why))?;
                info.references.insert(target);
            }
        }
        Ok(info)
    }

    /// Returns the info without references.
    fn info(&self, name: &ObjectName, path: &str, row: &Row<'_>) -> Result<PathInfo> {
        let cell = Cells {
            rows: self,
            path,
            row,
        };
        Ok(PathInfo {
            name: name.clone(),
            nar_hash: cell.read(0, "hash", columns::hash)?,
            registration_time: cell.read(1, "registrationTime", columns::time)?,
            deriver: cell.read(2, "deriver", |value| self.names.parse_optional(value))?,
            nar_size: cell.read(3, "narSize", columns::size)?,
            ultimate: cell.read(4, "ultimate", columns::number)? == Some(1),
            signatures: cell.read(5, "sigs", columns::signatures)?,
            ca: cell.read(6, "ca", columns::content_address)?,
            references: BTreeSet::new(),
        })
    }

    pub(super) fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        let path = self.names.path(name);
        let found = self.prepare(IS_VALID)?.query_row([path], |_| Ok(()));
        let found = found.optional().map_err(|why| self.unread(&why))?;
        Ok(found.is_some())
    }

    /// Returns who refers to `name`, itself included if it does.
    pub(super) fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.objects(REFERRERS, [self.names.path(name)], "Refs.referrer")
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        let path = self.names.path(drv);
        let mut query = self.prepare(OUTPUTS)?;
        let mut rows = query.query([&path]).map_err(|why| self.unread(&why))?;
        let mut outputs = Outputs::new();
        while let Some(row) = rows.next().map_err(|why| self.unread(&why))? {
            let cell = Cells {
                rows: self,
                path: &path,
                row,
            };
            let id = cell.read(0, "DerivationOutputs.id", |value| {
                columns::needed(value).map(str::to_owned)
            })?;
            let output = cell.read(1, "DerivationOutputs.path", |value| self.names.parse(value))?;
            outputs.insert(id, output);
        }
        Ok(outputs)
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        if hash_part.len() != HASH_PART_BYTES || !hash_part.bytes().all(base32::is_digit) {
            let what = format!("hash part '{}'", hash_part.escape_debug());
            let why = format!("it is not {HASH_PART_BYTES} digits of a store hash");
            return Err(Error::usage(what, why));
        }
        let start = self.names.before(hash_part);
        let mut query = self.prepare(FROM_PREFIX)?;
        let mut rows = query.query([&start]).map_err(|why| self.unread(&why))?;
        let Some(row) = rows.next().map_err(|why| self.unread(&why))? else {
            return Ok(None);
        };
        let found = self.value(&start, "ValidPaths.path", row, 0)?;
        match found {
            ValueRef::Text(path) if path.starts_with(start.as_bytes()) => {
                let name = self.names.parse(found);
                name.map(Some)
                    .map_err(|why| self.corrupt(&start, "ValidPaths.path", why))
            }
            _ => Ok(None),
        }
    }

    /// Returns the objects of a query with one column, which `column` names in errors.
    pub(super) fn objects<P: Params>(
        &self,
        query: &str,
        params: P,
        column: &str,
    ) -> Result<BTreeSet<ObjectName>> {
        let mut query = self.prepare(query)?;
        let mut rows = query.query(params).map_err(|why| self.unread(&why))?;
        let mut found = BTreeSet::new();
        while let Some(row) = rows.next().map_err(|why| self.unread(&why))? {
            let value = self.value("a row", column, row, 0)?;
            let name = self.names.parse(value);
            found.insert(name.map_err(|why| self.corrupt("a row", column, why))?);
        }
        Ok(found)
    }

    /// Returns a statement that is compiled once.
    pub(super) fn prepare(&self, query: &str) -> Result<CachedStatement<'a>> {
        let statement = self.connection.prepare_cached(query);
        statement.map_err(|why| self.unread(&why))
    }

    pub(super) fn value<'r>(
        &self,
        path: &str,
        column: &str,
        row: &'r Row<'_>,
        index: usize,
    ) -> Result<ValueRef<'r>> {
        let value = row.get_ref(index);
        value.map_err(|why| self.corrupt(path, column, why.to_string()))
    }

    pub(super) fn unread(&self, why: &rusqlite::Error) -> Error {
        self.failed("read", why)
    }

    /// Explains why a statement did not work.
    pub(super) fn failed(&self, verb: &str, why: &rusqlite::Error) -> Error {
        if let Some(busy) = self.busy.filter(|_| is_busy(why)) {
            busy.set(true);
        }
        failed(verb, self.file, why, self.terms)
    }

    /// The error of a value that is not what its column holds.
    pub(super) fn corrupt(&self, path: &str, column: &str, why: String) -> Error {
        let what = format!("read database {}", self.file.display());
        let why = format!("{}: column {column}: {why}", path.escape_debug());
        Error::new(Kind::Corrupt, what, why).hint(CORRECT)
    }

    fn dangling(&self, path: &str) -> Error {
        let what = format!("read database {}", self.file.display());
        let why = format!("{path}: column Refs.reference: it leads to a row that does not exist");
        Error::new(Kind::Corrupt, what, why).hint("overstore check tells how to mend it")
    }
}

/// The values of one row.
pub(super) struct Cells<'a> {
    pub(super) rows: &'a Rows<'a>,
    /// Whose row it is.
    pub(super) path: &'a str,
    pub(super) row: &'a Row<'a>,
}

impl Cells<'_> {
    /// Reads one value with the function of its column.
    pub(super) fn read<T>(
        &self,
        index: usize,
        column: &str,
        read: impl FnOnce(ValueRef<'_>) -> Parsed<T>,
    ) -> Result<T> {
        let value = self.rows.value(self.path, column, self.row, index)?;
        read(value).map_err(|why| self.rows.corrupt(self.path, column, why))
    }
}
