// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a collection would find, and what it would delete and free.
//!
//! Invariant: nothing is changed, and it is told of what is dead in the order and up to the limit of a
//! collection that begins now.

use super::inventory::{self, Inventory};
use super::links::LINKS;
use super::live::{Keep, World};
use super::removal::{Sides, is_whiteout};
use super::sweep::{has_lock_file, is_temporary_directory};
use super::{Limits, Turn, is_dead, rows};
use crate::error::{Error, Result};
use crate::nar::{Forecast, Place};
use crate::operations::{Store, find_roots};
use crate::roots::{HashPart, Protected, Stale, is_in_use};
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const WHAT: &str = "find what is dead";

/// What is alive and what is dead.
#[derive(Debug)]
pub struct Survey {
    /// The live objects: those of the upper, and of the lower where roots lead to them.
    pub live: BTreeSet<ObjectName>,
    /// Rows and names of the upper that would be deleted, garbage included.
    pub dead: BTreeSet<PathBuf>,
    /// The bytes that this would free in the upper.
    pub dead_bytes: u64,
}

/// Tells what a collection within `limits` would find.
pub fn survey(store: &Store, keep: Keep, limits: Limits) -> Result<Survey> {
    Turn::of(store)?.with_lock(Stale::Keep, |protected, kept| {
        let roots = find_roots(
            store.layout(),
            store.metadata(),
            Stale::Keep,
            store.interrupt(),
        )?;
        let mut world = World::new(rows(store)?, keep);
        world.mark(&roots, kept, store.interrupt())?;
        world.mark_beyond(kept, store.metadata().lower(), store.interrupt())?;
        let found = inventory::of(&store.layout().upper)?;
        let mut telling = Telling {
            store,
            protected,
            sides: Sides::of_top(store.layout())?,
            limits,
            forecast: Forecast::default(),
            pending_bytes: 0,
            dead: BTreeSet::new(),
            dead_bytes: 0,
        };
        if limits.max_freed != Some(0) {
            telling.all(&world, kept, &found)?;
            telling.links()?;
        }
        Ok(Survey {
            live: world.all_alive().into_iter().cloned().collect(),
            dead: telling.dead,
            dead_bytes: telling.dead_bytes,
        })
    })
}

/// A collection that only tells.
struct Telling<'a> {
    store: &'a Store,
    protected: &'a Protected,
    sides: Sides,
    limits: Limits,
    forecast: Forecast,
    /// As a sweep counts them.
    pending_bytes: u64,
    dead: BTreeSet<PathBuf>,
    dead_bytes: u64,
}

impl Telling<'_> {
    fn all(&mut self, world: &World, kept: &BTreeSet<HashPart>, found: &Inventory) -> Result<()> {
        for number in world.dead_in_order(|number| is_dead(world, kept, world.name(number))) {
            let name = world.name(number);
            if !found.objects.contains(name) {
                self.dead.insert(self.store.dir().store_path(name));
            } else if !self.object(name)? {
                return Ok(());
            }
        }
        for name in &found.objects {
            if !world.has_row(name) && is_dead(world, kept, name) && !self.object(name)? {
                return Ok(());
            }
        }
        for name in &found.others {
            if !self.name(name)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells of an object, unless somebody told of it meanwhile; whether there was room for it.
    fn object(&mut self, name: &ObjectName) -> Result<bool> {
        match self.protected.is_protected(HashPart::of(name)) {
            true => Ok(true),
            false => self.name(OsStr::new(name.as_str())),
        }
    }

    /// Tells of a name of the upper; whether there was room for it.
    fn name(&mut self, name: &OsStr) -> Result<bool> {
        self.store.interrupt().check(WHAT)?;
        if self.is_full() {
            return Ok(false);
        }
        let bytes = name.as_bytes();
        let Some(stat) = self.sides.stat(bytes)? else {
            return Ok(true);
        };
        let lockable = is_temporary_directory(bytes, &stat)
            || has_lock_file(bytes, &stat) && !self.sides.lower_has(bytes)?;
        if lockable && is_in_use(&self.sides.merged_path(bytes))? {
            return Ok(true);
        }
        let upper = &self.store.layout().upper;
        let place = Place::new(self.sides.upper(), bytes, upper)?;
        let freed = self.forecast.remove_tree(&place)?;
        self.dead_bytes += freed.bytes;
        self.pending_bytes += freed.linked_once;
        self.dead.insert(self.store.dir().as_path().join(name));
        Ok(true)
    }

    fn is_full(&self) -> bool {
        self.limits
            .is_full(self.dead_bytes.saturating_add(self.pending_bytes))
    }

    /// Adds what only `.links` would still have.
    fn links(&mut self) -> Result<()> {
        let Some(sides) = Sides::open(self.store.layout(), LINKS)? else {
            return Ok(());
        };
        let path = self.store.layout().upper.join(LINKS);
        let failed = |why: std::io::Error| Error::on("read", &path, why);
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            self.store.interrupt().check(WHAT)?;
            let name = entry.map_err(failed)?.file_name();
            let Some(stat) = sides.stat(name.as_bytes())? else {
                continue;
            };
            if self.forecast.names(&stat) == 1 || is_whiteout(&stat) {
                let place = Place::new(sides.upper(), name.as_bytes(), &path)?;
                self.dead_bytes += self.forecast.remove_tree(&place)?.bytes;
            }
        }
        Ok(())
    }
}
