// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deleting single objects.
//!
//! Invariant: either every object that was named may go, or none of them does.

use super::super::find_roots;
use super::live::{Keep, World};
use super::removal::Sides;
use super::sweep::{Sweep, is_kept};
use super::{Limits, Report, Step, Turn, finish, rows};
use crate::error::Result;
use crate::metadata::Source;
use crate::operations::Store;
use crate::roots::{HashPart, Protected, Stale};
use crate::store::ObjectName;
use std::collections::BTreeSet;

/// What is to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The objects.
    pub names: BTreeSet<ObjectName>,
    /// Roots do not count; that others refer to an object, or a process keeps it, still does.
    pub ignore_liveness: bool,
    /// Nothing is deleted.
    pub dry_run: bool,
}

impl Request {
    /// What becomes of what keeps nothing any more: in a dry run nothing changes.
    fn stale(&self) -> Stale {
        match self.dry_run {
            true => Stale::Keep,
            false => Stale::Remove,
        }
    }
}

/// Why an object is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object.
    pub name: ObjectName,
    /// The reason, in words.
    pub why: String,
}

/// Deletes objects, all or none of them: what hinders one is returned instead of a report.
///
/// # Errors
/// What hinders it before anything was deleted; what ends it later is in the report.
pub fn delete(
    store: &mut Store,
    request: &Request,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<std::result::Result<Report, Vec<Refusal>>> {
    Turn::of(store)?.with_lock(request.stale(), |protected, kept| {
        let keep = Keep {
            outputs: false,
            derivations: false,
        };
        let mut world = World::new(rows(store)?, keep);
        if !request.ignore_liveness {
            mark(store, &mut world, kept, request)?;
        }
        let sides = Sides::of_top(store.layout())?;
        let refusals = refusals(store, &world, &sides, kept, request)?;
        if !refusals.is_empty() {
            return Ok(Err(refusals));
        }
        if request.dry_run {
            let dir = store.dir();
            let deleted = request.names.iter().map(|name| dir.store_path(name));
            return Ok(Ok(Report {
                deleted: deleted.collect(),
                ..Report::default()
            }));
        }
        remove(store, &world, sides, protected, request, tell).map(Ok)
    })
}

fn mark(
    store: &Store,
    world: &mut World,
    kept: &BTreeSet<HashPart>,
    request: &Request,
) -> Result<()> {
    let roots = find_roots(
        store.layout(),
        store.metadata(),
        request.stale(),
        store.interrupt(),
    )?;
    world.mark(&roots, kept, store.interrupt())?;
    if request.names.iter().any(|name| world.why(name).is_none()) {
        world.mark_beyond(kept, store.metadata().lower(), store.interrupt())?;
    }
    Ok(())
}

fn refusals(
    store: &Store,
    world: &World,
    sides: &Sides,
    kept: &BTreeSet<HashPart>,
    request: &Request,
) -> Result<Vec<Refusal>> {
    let mut refusals = Vec::new();
    for name in &request.names {
        if let Some(why) = refusal(store, world, sides, kept, request, name)? {
            let name = name.clone();
            refusals.push(Refusal { name, why });
        }
    }
    Ok(refusals)
}

fn refusal(
    store: &Store,
    world: &World,
    sides: &Sides,
    kept: &BTreeSet<HashPart>,
    request: &Request,
    name: &ObjectName,
) -> Result<Option<String>> {
    let bytes = name.as_str().as_bytes();
    let in_upper = sides.stat(bytes)?.is_some();
    if !in_upper && sides.lower_has(bytes)? {
        let why = "it belongs to the lower store, of which nothing is ever deleted";
        return Ok(Some(why.to_owned()));
    }
    if !in_upper && !world.has_row(name) {
        return Ok(Some("there is no such object".to_owned()));
    }
    if let Some(why) = world.explain(name) {
        return Ok(Some(format!("it is still alive: {why}")));
    }
    if is_kept(kept, name) {
        return Ok(Some(
            "it is still alive: a running process keeps it".to_owned(),
        ));
    }
    let Some(upper) = store.metadata().upper() else {
        return Ok(None);
    };
    let referrers = upper.referrers(name)?;
    let others = referrers.difference(&request.names);
    Ok(others
        .into_iter()
        .find(|other| *other != name)
        .map(|other| format!("it is still alive: {other} refers to it")))
}

fn remove(
    store: &mut Store,
    world: &World,
    mut sides: Sides,
    protected: &Protected,
    request: &Request,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Report> {
    let order = world.dead_in_order(|number| request.names.contains(world.name(number)));
    let mut files = BTreeSet::new();
    for name in &request.names {
        if sides.stat(name.as_str().as_bytes())?.is_some() {
            files.insert(name.clone());
        }
    }
    tell(Step::Found(request.names.len()));
    let mut report = Report::default();
    let mut sweep = Sweep {
        store,
        protected,
        sides: &mut sides,
        limits: Limits::default(),
        report: &mut report,
        tell,
        pending_bytes: 0,
        kept: BTreeSet::new(),
    };
    let mut done = sweep.rows(world, &order, &files);
    for name in files.iter().filter(|name| !world.has_row(name)) {
        done = done.and_then(|_| sweep.rowless(name));
    }
    let finished = finish(store, &mut report, sides.is_behind(), done.map(drop));
    report.stopped = finished.err();
    Ok(report)
}
