// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metadata of a store whose database is on this machine, read only.
//!
//! Invariant: all answers are of one state of the database.

use super::columns::Names;
use super::read::Reader;
use super::rows::{Rowed, Rows};
use crate::error::Result;
use crate::store::StoreDir;
use crate::wait::Interrupt;
use std::path::Path;

/// A local database, open for reading.
#[derive(Debug)]
pub struct Local {
    reader: Reader,
    names: Names,
}

impl Local {
    /// Opens the database of the state directory `state`, whose rows are store paths of `store_dir`;
    /// `None` if there is none yet.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open(state: &Path, store_dir: &StoreDir) -> Result<Option<Local>> {
        Local::open_until(state, store_dir, &Interrupt::never())
    }

    /// Opens the database as [`Local::open`] does; `interrupt` ends every wait for others.
    pub fn open_until(
        state: &Path,
        store_dir: &StoreDir,
        interrupt: &Interrupt,
    ) -> Result<Option<Local>> {
        let names = Names::new(store_dir)?;
        let reader = Reader::open_until(state, interrupt)?;
        Ok(reader.map(|reader| Local { reader, names }))
    }

    /// Returns the reader, which answers in full store paths.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl Rowed for Local {
    fn rows(&self) -> Rows<'_> {
        Rows {
            connection: self.reader.connection(),
            file: self.reader.path(),
            names: &self.names,
            terms: self.reader.terms(),
            busy: None,
        }
    }

    fn finish_rows(&self) -> Result<()> {
        self.reader.finish()
    }
}
