// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collecting garbage: what no root leads to is deleted from the upper.
//!
//! Follows Nix's protocol, so that Nix may work on the same store meanwhile. Invariant: nothing of the
//! lower is changed or listed, and no whiteout is left: the cost grows with the upper directory, with
//! the upper database, and with what roots lead to.
//!
//! * `live`: what roots keep alive; `inventory`: what the upper directory has.
//! * `sweep`, `removal`, `links`: deleting. `survey`: telling what would be.
//! * `delete`: single objects.

mod delete;
mod inventory;
pub(super) mod links;
mod live;
pub(super) mod removal;
mod survey;
mod sweep;

pub use delete::{Refusal, Request, delete};
pub use live::Keep;
pub use survey::{Survey, survey};

use super::{Store, find_roots, list_roots};
use crate::error::{Error, Result};
use crate::metadata::{Graph, remove_ballast};
use crate::roots::{
    GcLock, GcServer, HashPart, Interrupt, Protected, Root, Stale, find_temp_roots,
};
use crate::store::{ObjectName, StoreDir};
use inventory::Inventory;
use live::World;
use removal::Sides;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use sweep::{Sweep, is_kept};

/// How far a collection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ends when more bytes than this are free; 0 deletes nothing.
    pub max_freed: Option<u64>,
}

impl Limits {
    /// Whether no more is deleted once `freed` bytes are.
    fn is_full(&self, freed: u64) -> bool {
        self.max_freed.is_some_and(|max| freed > max)
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// The store paths whose files were deleted from the upper, in this order.
    pub deleted: Vec<PathBuf>,
    /// The bytes that this freed.
    pub bytes_freed: u64,
    /// How many rows were dropped of objects whose files the lower has.
    pub rows_dropped: u64,
    /// How many hard links of `.links` were removed, which nothing else had.
    pub links_removed: u64,
    /// Objects that were found dead, or were to be deleted, and stay: somebody began to use them.
    pub in_use: Vec<Refusal>,
    /// How many could not be deleted (`ignore-gc-delete-failure`).
    pub failed: u64,
    /// Why it ended early, if it did.
    pub stopped: Option<Error>,
}

/// What is told while it works.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// So many are found dead.
    Found(usize),
    /// This name of the upper directory is deleted.
    Deleting(&'a OsStr),
}

/// Returns the roots, as they are found now.
pub fn roots(store: &Store) -> Result<BTreeSet<Root>> {
    list_roots(store.layout(), store.metadata(), store.interrupt())
}

/// Deletes what is dead.
///
/// # Errors
/// What hinders it before anything was deleted; what ends it later is in the report.
pub fn collect(
    store: &mut Store,
    keep: Keep,
    limits: Limits,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Report> {
    Turn::of(store)?.with_lock(Stale::Remove, |protected, kept| {
        let roots = find_roots(
            store.layout(),
            store.metadata(),
            Stale::Remove,
            store.interrupt(),
        )?;
        let mut world = World::new(rows(store)?, keep);
        let interrupt = store.interrupt().clone();
        world.mark(&roots, kept, &interrupt)?;
        let found = inventory::of(&store.layout().upper)?;
        if some_dead(&world, &found) {
            world.mark_beyond(kept, store.metadata().lower(), &interrupt)?;
        }
        let mut report = Report::default();
        if limits.max_freed != Some(0) {
            let task = Task {
                world: &world,
                found: &found,
                kept,
                limits,
            };
            let done = task.run(store, protected, &mut report, tell);
            report.stopped = done.err();
        }
        Ok(report)
    })
}

/// A turn as a collector: what is needed of the store to have it.
struct Turn {
    state: PathBuf,
    dir: StoreDir,
    interrupt: Interrupt,
}

impl Turn {
    fn of(store: &Store) -> Result<Turn> {
        let state = store.layout().state.as_deref().ok_or_else(|| {
            Error::usage("collect garbage", "mount options name no state directory")
                .hint("give a store URL")
        })?;
        Ok(Turn {
            state: state.to_owned(),
            dir: store.dir().clone(),
            interrupt: store.interrupt().clone(),
        })
    }

    /// Takes the lock, serves those who tell of new roots, and does `work` with the temporary roots.
    /// With [`Stale::Keep`] nothing of the state changes but the lock file and the socket: who adds
    /// something waits for an answer there as soon as the lock is taken.
    fn with_lock<T>(
        &self,
        stale: Stale,
        work: impl FnOnce(&Protected, &BTreeSet<HashPart>) -> Result<T>,
    ) -> Result<T> {
        if stale == Stale::Remove {
            remove_ballast(&self.state);
        }
        let lock = GcLock::exclusive(&self.state, &self.interrupt)?;
        let protected = Protected::new([])?;
        // First the server: what is added from now on is told to it, or in the files already.
        let server = GcServer::start(&lock, &self.dir, &protected)?;
        let kept = find_temp_roots(&self.state, &self.dir, stale)?;
        protected.extend(kept.iter().copied());
        let done = work(&protected, &kept);
        drop(server);
        done
    }
}

/// What one collection goes by.
struct Task<'a> {
    world: &'a World,
    found: &'a Inventory,
    kept: &'a BTreeSet<HashPart>,
    limits: Limits,
}

impl Task<'_> {
    fn run(
        &self,
        store: &mut Store,
        protected: &Protected,
        report: &mut Report,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<()> {
        let (world, found, kept) = (self.world, self.found, self.kept);
        let order = world.dead_in_order(|number| is_dead(world, kept, world.name(number)));
        let rowless = found
            .objects
            .iter()
            .filter(|name| !world.has_row(name) && is_dead(world, kept, name));
        let rowless: Vec<_> = rowless.collect();
        tell(Step::Found(
            order.len() + rowless.len() + found.others.len(),
        ));
        let mut sides = Sides::of_top(store.layout())?;
        let mut sweep = Sweep {
            store,
            protected,
            sides: &mut sides,
            limits: self.limits,
            report,
            tell,
            pending_bytes: 0,
            kept: BTreeSet::new(),
        };
        let mut done = sweep.rows(world, &order, &found.objects);
        for name in rowless {
            done = done.and_then(|room| Ok(room && sweep.rowless(name)?));
        }
        for name in &found.others {
            done = done.and_then(|room| Ok(room && sweep.garbage(name)?));
        }
        finish(store, report, sides.is_behind(), done.map(drop))
    }
}

/// Removes unused links, and has the view know of what was removed behind its back.
fn finish(store: &Store, report: &mut Report, behind: bool, done: Result<()>) -> Result<()> {
    let links = match &done {
        Ok(()) => links::sweep(store.layout(), store.interrupt()),
        Err(_) => Ok(links::Pass::default()),
    };
    let mut behind = behind;
    if let Ok(pass) = &links {
        report.links_removed += pass.removed;
        report.bytes_freed += pass.bytes;
        behind |= pass.behind;
    }
    let refreshed = match behind {
        true => refresh(store),
        false => Ok(()),
    };
    done.and(links.map(drop)).and(refreshed)
}

/// Has the view show what is in the layers now. A view that is not ours, or that this user may not
/// refresh, is left to the `remount-hook`.
pub(in crate::operations) fn refresh(store: &Store) -> Result<()> {
    let refreshed = match store.has_view() {
        true => store.refresh_view(),
        false => Err(Error::environment("refresh the view", "none is known")),
    };
    let Some(hook) = &store.layout().settings.remount_hook else {
        return match store.has_view() {
            true => refreshed,
            false => Ok(()),
        };
    };
    if refreshed.is_ok() {
        return Ok(());
    }
    let status = Command::new(hook).arg(&store.layout().merged).status();
    let status = status.map_err(|why| Error::on("run remount-hook", hook, why))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::on("run remount-hook", hook, status)),
    }
}

fn is_dead(world: &World, kept: &BTreeSet<HashPart>, name: &ObjectName) -> bool {
    world.why(name).is_none() && !is_kept(kept, name)
}

/// Whether anything could be dead, as far as the rows tell.
fn some_dead(world: &World, found: &Inventory) -> bool {
    let none = BTreeSet::new();
    let rows = (0..world.rows()).map(|number| world.name(number));
    let mut all = rows.chain(&found.objects);
    all.any(|name| is_dead(world, &none, name))
}

fn rows(store: &Store) -> Result<Graph> {
    match store.metadata().upper() {
        Some(upper) => upper.graph(),
        None => Ok(Graph::default()),
    }
}
