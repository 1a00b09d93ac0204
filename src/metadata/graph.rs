// SPDX-License-Identifier: MIT OR Apache-2.0
//! All rows of the upper database at once, as a graph of who keeps whom.
//!
//! Invariant: it is one state of the database, whatever others write meanwhile; and it costs three
//! statements, however many rows there are.

use super::columns;
use super::rows::{Rowed, Rows};
use super::upper::Upper;
use crate::error::{Error, Kind, Result};
use crate::store::ObjectName;
use rusqlite::{Row, Transaction, TransactionBehavior};
use std::collections::HashMap;

const OBJECTS: &str = "SELECT id, path, deriver FROM ValidPaths ORDER BY path";
const REFERENCES: &str = "SELECT referrer, reference FROM Refs";
const OUTPUTS: &str = "SELECT drv, path FROM DerivationOutputs";

/// The valid objects of the upper database, by their position in `names`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The objects, sorted.
    pub names: Vec<ObjectName>,
    /// The derivation that made each, where one is noted; it need not be valid.
    pub derivers: Vec<Option<ObjectName>>,
    /// What each refers to, itself left out.
    pub references: Vec<Vec<usize>>,
    /// The outputs of each that is a derivation; they need not be valid.
    pub outputs: Vec<Vec<ObjectName>>,
}

impl Upper {
    /// Reads all objects, and what each refers to.
    pub fn graph(&self) -> Result<Graph> {
        let rows = self.rows();
        let behavior = TransactionBehavior::Deferred;
        let reading = Transaction::new_unchecked(rows.connection, behavior);
        let reading = reading.map_err(|why| rows.unread(&why))?;
        let graph = read(&rows)?;
        reading.finish().map_err(|why| rows.unread(&why))?;
        Ok(graph)
    }
}

fn read(rows: &Rows<'_>) -> Result<Graph> {
    let mut graph = Graph::default();
    let mut positions = HashMap::new();
    each(rows, OBJECTS, |row| {
        let cell = |index, column| rows.value("a row", column, row, index);
        let name = rows.names.parse(cell(1, "ValidPaths.path")?);
        let name = name.map_err(|why| rows.corrupt("a row", "ValidPaths.path", why))?;
        let deriver = rows.names.parse_optional(cell(2, "deriver")?);
        let deriver = deriver.map_err(|why| rows.corrupt(name.as_str(), "deriver", why))?;
        positions.insert(number(rows, row, 0, "ValidPaths.id")?, graph.names.len());
        graph.names.push(name);
        graph.derivers.push(deriver);
        Ok(())
    })?;
    graph.references = vec![Vec::new(); graph.names.len()];
    graph.outputs = vec![Vec::new(); graph.names.len()];
    let position = |row: &Row<'_>, index, column| {
        let id = number(rows, row, index, column)?;
        let found = positions.get(&id).copied();
        found.ok_or_else(|| nowhere(rows, column, id))
    };
    each(rows, REFERENCES, |row| {
        let from = position(row, 0, "Refs.referrer")?;
        let to = position(row, 1, "Refs.reference")?;
        if from != to {
            graph.references[from].push(to);
        }
        Ok(())
    })?;
    each(rows, OUTPUTS, |row| {
        let from = position(row, 0, "DerivationOutputs.drv")?;
        let column = "DerivationOutputs.path";
        let output = rows.names.parse(rows.value("a row", column, row, 1)?);
        let output = output.map_err(|why| rows.corrupt("a row", column, why))?;
        graph.outputs[from].push(output);
        Ok(())
    })?;
    Ok(graph)
}

fn each(rows: &Rows<'_>, query: &str, mut take: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
    let mut query = rows.prepare(query)?;
    let mut found = query.query([]).map_err(|why| rows.unread(&why))?;
    while let Some(row) = found.next().map_err(|why| rows.unread(&why))? {
        take(row)?;
    }
    Ok(())
}

fn number(rows: &Rows<'_>, row: &Row<'_>, index: usize, column: &str) -> Result<i64> {
    let value = columns::number(rows.value("a row", column, row, index)?);
    let value = value.map_err(|why| rows.corrupt("a row", column, why))?;
    value.ok_or_else(|| rows.corrupt("a row", column, "it is NULL".to_owned()))
}

fn nowhere(rows: &Rows<'_>, column: &str, id: i64) -> Error {
    let what = format!("read database {}", rows.file.display());
    let why = format!("column {column}: it leads to row {id}, which does not exist");
    Error::new(Kind::Corrupt, what, why).hint("overstore check tells how to mend it")
}
