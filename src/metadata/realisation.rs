// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recorded outputs of content-addressed derivations, which two families of tables keep.
//!
//! Invariant: the tables are read where they exist, and neither made, changed nor missed.

use super::columns;
use super::rows::{Cells, Rows};
use crate::error::Result;
use crate::store::ObjectName;
use std::collections::BTreeSet;

/// What an output of a content-addressed derivation turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// The object.
    pub output: ObjectName,
    /// Signatures as Nix spells them.
    pub signatures: BTreeSet<String>,
}

/// Of Nix up to 2.34, which names a derivation by its hash: `sha256:...`.
const REALISATIONS: &str = "
SELECT output.path, Realisations.signatures
FROM Realisations
LEFT JOIN ValidPaths AS output ON output.id = Realisations.outputPath
WHERE Realisations.drvPath = ?1 AND Realisations.outputName = ?2";

/// Of Nix from 2.35, which names a derivation by its name in the store.
const BUILD_TRACE: &str = "
SELECT outputPath, signatures FROM BuildTraceV3 WHERE drvPath = ?1 AND outputName = ?2";

const IS_TABLE: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";

impl Rows<'_> {
    /// Returns what `output` of `derivation` turned out to be.
    pub(super) fn realisation(
        &self,
        derivation: &str,
        output: &str,
    ) -> Result<Option<Realisation>> {
        // No name in a store has a colon, so each key belongs to one family.
        let (table, query) = match derivation.contains(':') {
            true => ("Realisations", REALISATIONS),
            false => ("BuildTraceV3", BUILD_TRACE),
        };
        let there: rusqlite::Result<i64> =
            self.prepare(IS_TABLE)?.query_row([table], |row| row.get(0));
        if there.map_err(|why| self.unread(&why))? == 0 {
            return Ok(None);
        }
        let mut query = self.prepare(query)?;
        let rows = query.query([derivation, output]);
        let mut rows = rows.map_err(|why| self.unread(&why))?;
        let Some(row) = rows.next().map_err(|why| self.unread(&why))? else {
            return Ok(None);
        };
        let path = format!("{derivation}!{output}");
        let cells = Cells {
            rows: self,
            path: &path,
            row,
        };
        let column = format!("{table}.outputPath");
        Ok(Some(Realisation {
            output: cells.read(0, &column, |value| self.names.parse(value))?,
            signatures: cells.read(1, &format!("{table}.signatures"), columns::signatures)?,
        }))
    }
}
