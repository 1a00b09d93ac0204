// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upper database, open for writing.
//!
//! Invariant: a change is done whole or not at all, whatever other processes do meanwhile; and as long
//! as the database is open nobody upgrades its schema.

use super::change::Change;
use super::columns::Names;
use super::database::{self, Database, PATIENCE, is_busy};
use super::lock::BigLock;
use super::rows::{Rowed, Rows};
use super::terms::Terms;
use super::{UNUSABLE, directories, may, open_writable};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::store::StoreDir;
use crate::wait::Interrupt;
use rusqlite::{Transaction, TransactionBehavior};
use rustix::fs::Access;
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

/// The upper database. While it is open, this process asks it through this value alone: a [`super::Local`]
/// of the same database is refused.
#[derive(Debug)]
pub struct Upper {
    database: Database,
    names: Names,
    /// Goes last: an upgrade may begin once the database is closed.
    _lock: BigLock,
}

/// How one attempt at a change ended.
enum Attempt<T> {
    Done(T),
    /// Nothing was changed, and it can be tried again.
    Busy(Error),
    /// Nothing was changed.
    Failed(Error),
}

impl Upper {
    /// Opens the upper database of `layout`, made like Nix would if it is missing. Another process
    /// that writes is waited for as long as Nix does, and the user is told.
    ///
    /// # Errors
    /// A layout that is read-only or has no state, a state that this user may not write, a database
    /// of another schema, and one that is broken.
    pub fn open(layout: &Layout) -> Result<Upper> {
        Upper::open_until(layout, &Interrupt::never())
    }

    /// Opens the database as [`Upper::open`] does; whatever is waited for, then and later, `interrupt`
    /// ends it.
    pub fn open_until(layout: &Layout, interrupt: &Interrupt) -> Result<Upper> {
        Upper::open_patient(layout, PATIENCE, interrupt)
    }

    /// Opens the database as [`Upper::open_until`] does, and waits no longer than `patience` for other
    /// processes that write.
    pub fn open_patient(
        layout: &Layout,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<Upper> {
        let state = state_of(layout)?;
        let Some(store_dir) = StoreDir::new(&layout.store_dir) else {
            let what = format!("store directory {}", layout.store_dir.display());
            return Err(Error::usage(what, "it is not absolute"));
        };
        let names = Names::new(&store_dir)?;
        let (_, database, lock) = open_writable(state, &Terms::new(patience, interrupt))?;
        let directory = state.join("db");
        if !may(&directory, Access::READ_OK | Access::WRITE_OK) {
            let why = "the directory may not be written";
            return Err(Error::on("write database in", directory, why).hint(UNUSABLE));
        }
        database.prepare_to_write()?;
        directories::keep_ballast(state);
        Ok(Upper {
            database,
            names,
            _lock: lock,
        })
    }

    /// Returns the database file.
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// Waits until nobody else is about to write, as a change would, and changes nothing: for who must
    /// not wait later.
    pub fn wait_for_turn(&mut self) -> Result<()> {
        self.write(|_| Ok(()))
    }

    /// From now on waits no longer than `patience` for other processes that write.
    pub fn wait_no_longer_than(&mut self, patience: Duration) -> Result<()> {
        let set = self.database.wait_no_longer_than(patience);
        set.map_err(|why| database::failed("open", self.path(), &why, self.database.terms()))
    }

    /// Makes one change: all that `change` did is there for everybody when this returns, or nothing
    /// of it if it, or the database, fails. While another process is in the way `change` is called
    /// again, and nothing of the call before is left.
    pub fn write<T>(&mut self, mut change: impl FnMut(&Change<'_>) -> Result<T>) -> Result<T> {
        let mut turn = self.database.terms().turn(self.path());
        loop {
            match self.attempt(&mut change) {
                Attempt::Done(value) => return Ok(value),
                Attempt::Failed(error) => return Err(error),
                Attempt::Busy(error) => {
                    if !turn.pause() {
                        let interrupted = self.database.terms().interrupted(self.path());
                        return Err(interrupted.unwrap_or(error));
                    }
                }
            }
        }
    }

    fn attempt<T>(&self, change: &mut impl FnMut(&Change<'_>) -> Result<T>) -> Attempt<T> {
        let busy = Cell::new(false);
        let refused = |why: &rusqlite::Error| {
            let error = database::failed("write", self.path(), why, self.database.terms());
            match is_busy(why) {
                true => Attempt::Busy(error),
                false => Attempt::Failed(error),
            }
        };
        // At once for writing: what is read in it is then still so when it is written.
        let behavior = TransactionBehavior::Immediate;
        let begun = Transaction::new_unchecked(self.database.connection(), behavior);
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(why) => return refused(&why),
        };
        let rows = Rows {
            busy: Some(&busy),
            ..self.rows()
        };
        let value = match change(&Change { rows }) {
            Ok(value) => value,
            // Dropped, the transaction is rolled back.
            Err(error) if busy.get() => return Attempt::Busy(error),
            Err(error) => return Attempt::Failed(error),
        };
        match transaction.commit() {
            Ok(()) => Attempt::Done(value),
            Err(why) => refused(&why),
        }
    }
}

impl Rowed for Upper {
    fn rows(&self) -> Rows<'_> {
        Rows {
            connection: self.database.connection(),
            file: self.database.path(),
            names: &self.names,
            terms: self.database.terms(),
            busy: None,
        }
    }
}

/// Returns the state directory of a layout that may be written.
fn state_of(layout: &Layout) -> Result<&Path> {
    let what = "open the upper database for writing";
    if layout.read_only {
        let why = "the store URL says read-only=true";
        return Err(Error::usage(what, why).hint("leave read-only out of it"));
    }
    layout.state.as_deref().ok_or_else(|| {
        let why = "mount options name no state directory";
        Error::usage(what, why).hint("give a store URL")
    })
}
