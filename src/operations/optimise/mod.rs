// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving room in the upper: what the lower has too goes, and equal files become one.
//!
//! Invariant: every object has the same content before, after, and wherever this is ended.

mod files;
mod relink;

use super::Store;
use super::gc::removal::Sides;
use crate::error::{Error, Result};
use crate::metadata::Source;
use crate::nar::Freed;
use crate::roots::PathLocks;
use crate::store::ObjectName;
use relink::Relinker;
use std::ffi::OsStr;

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects whose files were removed because the lower has the same.
    pub dropped: Vec<ObjectName>,
    /// The bytes that this freed.
    pub dropped_bytes: u64,
    /// Objects of which the lower has another content: they stay.
    pub differing: Vec<ObjectName>,
    /// How many files were replaced by a link to an equal one.
    pub linked: u64,
    /// The bytes that this freed.
    pub linked_bytes: u64,
    /// Why it ended early, if it did.
    pub stopped: Option<Error>,
}

/// What is told while it works.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// There are so many objects.
    Found(usize),
    /// One of them is looked at.
    At(&'a OsStr),
}

/// Drops duplicates of the lower, then links equal files. Like Nix it takes no lock of the collector;
/// each object is kept by a temporary root while this process lives.
///
/// # Errors
/// What hinders it before anything was changed; what ends it later is in the report.
pub fn optimise(store: &mut Store, tell: &mut dyn FnMut(Step<'_>)) -> Result<Report> {
    let upper = store.metadata().upper();
    let rows = upper.map_or(Ok(Default::default()), Source::all_valid)?;
    let mut sides = Sides::of_top(store.layout())?;
    sides.refuse_covered()?;
    let mut own = Vec::new();
    for name in rows {
        if sides.stat(name.as_str().as_bytes())?.is_some() {
            own.push(name);
        }
    }
    tell(Step::Found(own.len()));
    let mut report = Report::default();
    let done = each(store, &mut sides, &own, &mut report, tell);
    let refreshed = match sides.is_behind() {
        true => super::gc::refresh(store),
        false => Ok(()),
    };
    report.stopped = done.and(refreshed).err();
    Ok(report)
}

fn each(
    store: &Store,
    sides: &mut Sides,
    own: &[ObjectName],
    report: &mut Report,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<()> {
    let mut relinker: Option<Relinker> = None;
    for name in own {
        store.interrupt().check("optimise the store")?;
        tell(Step::At(OsStr::new(name.as_str())));
        store.keep(name)?;
        let Some(upper) = store.metadata().upper() else {
            return Ok(());
        };
        // Collected since the list was made, maybe.
        let Some(info) = upper.path_info(name)? else {
            continue;
        };
        if !sides.lower_has(name.as_str().as_bytes())? {
            let relinker = match &mut relinker {
                Some(relinker) => relinker,
                none => none.insert(Relinker::open(store)?),
            };
            relinker.object(sides, name, report)?;
            continue;
        }
        let below = match store.metadata().lower() {
            Some(lower) => lower.path_info(name)?,
            None => None,
        };
        match below {
            Some(below) if below.nar_hash == info.nar_hash => {
                let freed = drop_copy(store, sides, name)?;
                if let Some(freed) = freed {
                    report.dropped_bytes += freed.bytes;
                    report.dropped.push(name.clone());
                }
            }
            Some(_) => {
                log::warn!("{name} is another one in the lower store; the upper's stays");
                report.differing.push(name.clone());
            }
            // Garbage of the lower, of which nobody knows whether it is whole.
            None => log::info!("{name} is not valid in the lower store; the upper's stays"),
        }
    }
    Ok(())
}

/// Removes the upper's copy, unless somebody works on it.
fn drop_copy(store: &Store, sides: &mut Sides, name: &ObjectName) -> Result<Option<Freed>> {
    let only = [name.clone()].into();
    match PathLocks::try_take(&store.layout().merged, &only)? {
        Some(_lock) => sides.remove(name.as_str().as_bytes()).map(Some),
        None => {
            log::info!("{name} is being worked on, and stays");
            Ok(None)
        }
    }
}
