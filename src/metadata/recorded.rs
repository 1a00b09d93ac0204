// SPDX-License-Identifier: MIT OR Apache-2.0
//! What verification asks of the upper database beside the questions to every source: all rows with
//! what they say of their archives, and references that lead nowhere.
//!
//! Invariant: one row that makes no sense is told as that row, and does not keep the others from being
//! read.

use super::change::Change;
use super::columns;
use super::rows::Rowed;
use super::upper::Upper;
use crate::error::{Error, Result};
use crate::store::{ObjectName, Sha256};
use rusqlite::types::ValueRef;
use std::collections::BTreeSet;

const RECORDED: &str = "SELECT path, hash, narSize FROM ValidPaths ORDER BY path";

const DANGLING: &str = "
SELECT DISTINCT source.path FROM Refs
JOIN ValidPaths AS source ON source.id = Refs.referrer
LEFT JOIN ValidPaths AS target ON target.id = Refs.reference
WHERE target.id IS NULL";

const FORGET: &str = "
DELETE FROM Refs WHERE referrer = (SELECT id FROM ValidPaths WHERE path = ?1)
AND reference NOT IN (SELECT id FROM ValidPaths)";

/// What a row says of the archive of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The object.
    pub name: ObjectName,
    /// The digest of its NAR.
    pub nar_hash: Sha256,
    /// The size of its NAR in bytes; 0 where the row does not tell.
    pub nar_size: u64,
}

/// A row that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its path, as it is written there.
    pub path: String,
    /// Why.
    pub why: Error,
}

impl Upper {
    /// Returns what every row says of its archive, by store path.
    pub fn recorded(&self) -> Result<Vec<std::result::Result<Recorded, BadRow>>> {
        let rows = self.rows();
        let mut query = rows.prepare(RECORDED)?;
        let mut found = query.query([]).map_err(|why| rows.unread(&why))?;
        let mut all = Vec::new();
        while let Some(row) = found.next().map_err(|why| rows.unread(&why))? {
            let values: rusqlite::Result<[ValueRef<'_>; 3]> =
                (|| Ok([row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?]))();
            let [path, hash, size] = values.map_err(|why| rows.unread(&why))?;
            let shown = match path {
                ValueRef::Text(text) => text.escape_ascii().to_string(),
                other => format!("({})", other.data_type()),
            };
            let column = |column: &'static str| {
                let shown = &shown;
                move |why| BadRow {
                    path: shown.clone(),
                    why: rows.corrupt(shown, column, why),
                }
            };
            let read = || {
                Ok(Recorded {
                    name: rows.names.parse(path).map_err(column("path"))?,
                    nar_hash: columns::hash(hash).map_err(column("hash"))?,
                    nar_size: columns::size(size).map_err(column("narSize"))?,
                })
            };
            all.push(read());
        }
        Ok(all)
    }

    /// Returns the objects that refer to rows which do not exist.
    pub fn dangling(&self) -> Result<BTreeSet<ObjectName>> {
        self.rows().objects(DANGLING, [], "ValidPaths.path")
    }
}

impl Change<'_> {
    /// Removes the references of `name` that lead to rows which do not exist; tells how many.
    pub fn forget_dangling(&self, name: &ObjectName) -> Result<usize> {
        let path = self.rows.names.path(name);
        let done = self.rows.prepare(FORGET)?.execute([path]);
        done.map_err(|why| self.rows.failed("write", &why))
    }
}
