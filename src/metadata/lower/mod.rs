// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metadata of a lower store, whatever kind of store it is.
//!
//! Decides which source a layout's lower store is: its database, a daemon, or both halves of another
//! overlay store. Invariant: nothing of a lower store is created, locked for writing or changed. One
//! thing moves where root reads a database somebody writes: SQLite gives its log and its index the
//! owner of the database, which they have, so that their change time is new (no open mode spares
//! that). Where the store is mounted read-only that fails, and nothing moves.

pub mod daemon;
mod unmade;

use super::live::Live;
use super::source::Source;
use super::{Local, Union};
use crate::error::{Error, Result};
use crate::layout::{Layout, LowerStore};
use crate::store::{ObjectName, Outputs, PathInfo, StoreDir};
use crate::wait::Interrupt;
use daemon::{Daemon, Patience};
use std::collections::BTreeSet;
use std::path::Path;
use unmade::Unmade;

/// A part of a lower store that says nothing.
#[derive(Debug)]
pub enum Gap<'a> {
    /// The layout tells no metadata of the lower store in this directory.
    Untold(&'a Path),
    /// The store with this state directory has no database yet.
    NoDatabase(&'a Path),
    /// The database in this state directory cannot be read.
    Unreadable(&'a Path, Error),
    /// The store at this place cannot be asked.
    Unreachable(&'a Path, Error),
}

/// Opens the metadata of the lower store of `layout`; `None` if the layout tells none.
///
/// A store whose database has not been made yet has no valid object, if it has no object at all: Nix too
/// would find none, after it had made the database. Of those that are there anyhow nothing is known, and
/// asking about them is an error. Under `read-only=true` Nix does not make it, and fails.
///
/// # Errors
/// A part that cannot be asked is an error for the whole, never a store with fewer objects.
///
/// A daemon is not asked for anything yet: what the upper knows is known also while it is away.
pub fn open(layout: &Layout) -> Result<Option<Box<dyn Source>>> {
    open_as(layout, &How::default(), &mut refuse)
}

/// Opens the metadata of the lower store as [`open`] does, for who works with it for long: each question
/// is about what is so when it is asked, and no log of the lower grows meanwhile. Whatever is waited for,
/// then and at a question, `interrupt` ends it.
pub fn open_live(layout: &Layout, interrupt: &Interrupt) -> Result<Option<Box<dyn Source>>> {
    let how = How {
        live: true,
        interrupt: interrupt.clone(),
        ..How::default()
    };
    open_as(layout, &how, &mut refuse)
}

fn refuse(gap: Gap<'_>) -> Result<()> {
    match gap {
        Gap::Untold(_) | Gap::NoDatabase(_) => Ok(()),
        Gap::Unreadable(_, why) | Gap::Unreachable(_, why) => Err(why),
    }
}

/// Opens the metadata of the lower store of `layout` as far as possible, daemons included, which
/// get `patience`; `missing` is told of every part that says nothing.
pub fn open_possible(
    layout: &Layout,
    patience: Patience,
    missing: &mut dyn FnMut(Gap<'_>),
) -> Result<Option<Box<dyn Source>>> {
    let how = How {
        possible: true,
        patience,
        ..How::default()
    };
    open_as(layout, &how, &mut |gap| {
        missing(gap);
        Ok(())
    })
}

/// How a source is opened.
#[derive(Debug, Default)]
struct How {
    /// Whether all is known of it that can be: daemons are connected to at once, and not at the first
    /// question; and what has no database is told, and not asked further.
    possible: bool,
    /// Whether each question is about what is so when it is asked.
    live: bool,
    /// That which daemons get.
    patience: Patience,
    /// What ends all waits.
    interrupt: Interrupt,
}

impl How {
    fn local(&self, state: &Path, dir: &StoreDir) -> Result<Option<Box<dyn Source>>> {
        fn boxed(source: impl Source + 'static) -> Box<dyn Source> {
            Box::new(source)
        }
        match self.live {
            true => Ok(Live::open(state, dir, &self.interrupt)?.map(boxed)),
            false => Ok(Local::open_until(state, dir, &self.interrupt)?.map(boxed)),
        }
    }
}

/// Goes on without what `missing` takes for a gap that may be.
fn open_as(
    layout: &Layout,
    how: &How,
    missing: &mut dyn FnMut(Gap<'_>) -> Result<()>,
) -> Result<Option<Box<dyn Source>>> {
    match &layout.lower_store {
        LowerStore::Directory => {
            missing(Gap::Untold(&layout.lower))?;
            Ok(None)
        }
        LowerStore::Local { state, read_only } => {
            match store_dir(layout).and_then(|dir| how.local(state, &dir)) {
                Ok(Some(local)) => return Ok(Some(local)),
                Ok(None) if *read_only => missing(Gap::Unreadable(state, no_database(state)))?,
                Ok(None) => {
                    missing(Gap::NoDatabase(state))?;
                    if !how.possible {
                        return Ok(Some(Box::new(Unmade::new(&layout.lower, state))));
                    }
                }
                Err(why) => missing(Gap::Unreadable(state, why))?,
            }
            Ok(Some(Box::new(Nothing)))
        }
        LowerStore::Daemon { socket } => {
            let daemon = Daemon::new(socket, store_dir(layout)?, how.patience);
            let daemon = daemon.until(&how.interrupt);
            if how.possible
                && let Err(why) = daemon.connect()
            {
                missing(Gap::Unreachable(socket, why))?;
                return Ok(None);
            }
            Ok(Some(Box::new(daemon)))
        }
        LowerStore::Overlay(inner) => overlay(layout, inner, how, missing).map(Some),
    }
}

fn no_database(state: &Path) -> Error {
    let what = format!(
        "read the lower store with the state directory {}",
        state.display()
    );
    let why = "it has no database, and read-only=true forbids to make one";
    Error::environment(what, why)
        .hint("mount what it lies on, or correct state= of the lower store")
}

/// Opens both halves of the overlay store `inner`, the lower store of `layout`.
fn overlay(
    layout: &Layout,
    inner: &Layout,
    how: &How,
    missing: &mut dyn FnMut(Gap<'_>) -> Result<()>,
) -> Result<Box<dyn Source>> {
    let dir = store_dir(inner)?;
    if inner.store_dir != layout.store_dir {
        let why = Error::usage(
            format!("lower store {}", inner.merged.display()),
            format!("its objects are named {}/...", inner.store_dir.display()),
        );
        let why = why.hint("set store= alike for both stores");
        missing(Gap::Unreachable(&inner.merged, why))?;
        return Ok(Box::new(Nothing));
    }
    match how.live {
        true => halves(
            |state| Live::open(state, &dir, &how.interrupt),
            inner,
            how,
            missing,
        ),
        false => halves(
            |state| Local::open_until(state, &dir, &how.interrupt),
            inner,
            how,
            missing,
        ),
    }
}

fn halves<U: Source + 'static>(
    open: impl Fn(&Path) -> Result<Option<U>>,
    inner: &Layout,
    how: &How,
    missing: &mut dyn FnMut(Gap<'_>) -> Result<()>,
) -> Result<Box<dyn Source>> {
    let mut upper = None;
    match inner.state.as_deref() {
        None => missing(Gap::Untold(&inner.merged))?,
        Some(state) => match open(state) {
            // An overlay store whose database has not been made shows its lower store's objects.
            Ok(found) => upper = found,
            Err(why) => missing(Gap::Unreadable(state, why))?,
        },
    }
    let lower = open_as(inner, how, missing)?;
    Ok(Box::new(Union::new(upper, lower)))
}

/// The directory that the store paths of `layout` spell out.
pub(super) fn store_dir(layout: &Layout) -> Result<StoreDir> {
    StoreDir::new(&layout.store_dir).ok_or_else(|| {
        Error::usage(
            format!("store directory {}", layout.store_dir.display()),
            "not an absolute path",
        )
    })
}

/// A store without a valid object.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn path_info(&self, _: &ObjectName) -> Result<Option<PathInfo>> {
        Ok(None)
    }

    fn is_valid(&self, _: &ObjectName) -> Result<bool> {
        Ok(false)
    }

    fn referrers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }

    fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }

    fn outputs(&self, _: &ObjectName) -> Result<Outputs> {
        Ok(Outputs::new())
    }

    fn with_hash_part(&self, _: &str) -> Result<Option<ObjectName>> {
        Ok(None)
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests;
