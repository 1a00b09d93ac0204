// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upper database: Nix's own, at `STATE/db/db.sqlite`, shared live with Nix.
//!
//! Decides what is created, locked and refused there; all SQL lives in this room. Invariant:
//! nothing of a lower store is ever created, locked or written, and no table that Nix's core
//! schema does not name is ever touched.
//!
//! * `directories`: the state directory with Nix's modes, and the collector's ballast.
//! * `lock`: the big lock, which keeps schema upgrades out.
//! * `schema`: the version file and the tables of version 10.
//! * `database`: one way to open, with Nix's connection settings and patience.
//! * `read`: another, which changes nothing and waits for nobody for long.
//! * `lower`: the sources of a lower store: its database, a daemon, another overlay store.
//! * `union`: the upper database and the lower store, asked as one store.
//! * `source`: what can be asked of the metadata of a store.
//! * `rows`, `columns`, `realisation`: the answers of one of Nix's databases, opened for either.
//! * `local`: such a database as a source, for reading; `live`: for long, while others write it.
//! * `upper`, `change`, `copy_up`, `order`: the upper database, for writing.
//! * `asked`: what the lower said, for a change of the upper.
//! * `held`: no database is open for reading and for writing in one process.
//! * `graph`: all rows of the upper database at once, for who collects.
//! * `terms`: how long others are waited for.
//! * `recorded`: what verification asks of it beside.
//! * `regular`: no file is opened that would keep its reader waiting, such as a fifo.

mod asked;
mod change;
mod columns;
mod copy_up;
mod database;
mod directories;
mod graph;
mod held;
mod live;
mod local;
mod lock;
pub mod lower;
mod order;
mod read;
mod realisation;
mod recorded;
mod regular;
mod rows;
mod schema;
mod source;
mod terms;
mod union;
mod upper;

pub use asked::Asked;
pub use change::{Change, Registration, is_in_use};
pub use database::is_locked;
pub use directories::remove_ballast;
pub use graph::Graph;
pub use local::Local;
pub use read::Reader;
pub use realisation::Realisation;
pub use recorded::{BadRow, Recorded};
pub use regular::open as open_regular;
pub use source::Source;
pub use union::{Union, open_union};
pub use upper::Upper;

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::wait::Interrupt;
use database::{Database, PATIENCE};
use lock::BigLock;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use schema::Version;
use std::io::ErrorKind;
use std::path::Path;
use terms::Terms;

/// What [`prepare_state`] found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// The layout has no state: it was given by mount options.
    NotKept,
    /// The state is used as it is: the layout is read-only, or the state may not be written.
    ReadOnly,
    /// The database was there.
    Present,
    /// The database was created.
    Created,
}

/// Makes sure that the state directory and the upper database exist, as Nix would on opening
/// the store. The big lock is released again: holding it for the life of a mount would keep
/// Nix from upgrading the schema.
///
/// # Errors
/// A database of another schema version is refused, also by a read-only layout. A state that may
/// not be written is an error only if the database is not there yet.
pub fn prepare_state(layout: &Layout) -> Result<Prepared> {
    let Some(state) = layout.state.as_deref() else {
        return Ok(Prepared::NotKept);
    };
    let found = schema::read(state)?;
    found.refuse_others(state)?;
    if layout.read_only {
        return Ok(Prepared::ReadOnly);
    }
    let directory = state.join("db");
    if found == Version::Current && !may(&directory, Access::READ_OK | Access::WRITE_OK) {
        return use_as_it_is(state);
    }
    prepare_writable(state)
}

fn prepare_writable(state: &Path) -> Result<Prepared> {
    let terms = Terms::new(PATIENCE, &Interrupt::never());
    let (prepared, database, lock) = open_writable(state, &terms)?;
    directories::keep_ballast(state);
    drop(database);
    lock.release();
    Ok(prepared)
}

/// Opens the database, made if it is missing, under the big lock.
fn open_writable(state: &Path, terms: &Terms) -> Result<(Prepared, Database, BigLock)> {
    directories::create(state)?;
    let lock = BigLock::shared(state, &terms.interrupt)?;
    // Read again: a new database or an upgrade may have been finished before the lock was ours.
    let found = schema::read(state)?;
    found.refuse_others(state)?;
    let (prepared, database) = match found {
        Version::New => {
            // The shared lock suffices, as it does for Nix: several creators make the same tables.
            let database = Database::create(state, terms)?;
            schema::write(state)?;
            (Prepared::Created, database)
        }
        _ => {
            let database = Database::open(state, terms)?;
            database.check_core_tables()?;
            (Prepared::Present, database)
        }
    };
    Ok((prepared, database, lock))
}

/// Accepts a finished database that may be read but not written.
fn use_as_it_is(state: &Path) -> Result<Prepared> {
    let path = database::path(state);
    if may(&path, Access::READ_OK) {
        log::info!("{} may not be written; using it as it is", state.display());
        return Ok(Prepared::ReadOnly);
    }
    Err(Error::on("open database", path, "it may not be read").hint(UNUSABLE))
}

/// The way out where the state cannot be used.
const UNUSABLE: &str = "run as its owner";

/// The way out where the state cannot be made: another one would know nothing of what is in the upper.
const UNMADE: &str = "run as its owner, or add state=/DIR to the store URL";

/// Returns the way out where something cannot be made in `state`.
fn way_out(state: &Path) -> &'static str {
    match state.join("db/schema").symlink_metadata() {
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => UNMADE,
        Ok(_) | Err(_) => UNUSABLE,
    }
}

/// Tells whether this process may do `what` to `path`, with its effective ids.
fn may(path: &Path, what: Access) -> bool {
    accessat(CWD, path, what, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upper_tests;
