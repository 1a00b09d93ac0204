// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that somebody put into the merged store by hand, made valid.
//!
//! Decides what they refer to by what is in them. Invariant: they become valid all at once, and are
//! then what their rows say.

use super::Store;
use super::add::{Merged, Put, in_upper, keep, lock, settle};
use super::scan::scan;
use crate::error::{Error, Kind, Result};
use crate::metadata::Source;
use crate::nar::{Links, Scanner, canonicalise};
use crate::store::{ObjectName, PathInfo};
use std::collections::BTreeSet;

/// Makes the objects `names`, which are in place, canonical, finds out what they refer to among all
/// valid objects and each other, and registers them; those that are valid stay as they are.
///
/// # Errors
/// An object that is not in the upper store, and references in a circle; nothing is registered then.
pub fn seal(store: &mut Store, names: &BTreeSet<ObjectName>) -> Result<Vec<(ObjectName, Put)>> {
    for name in names {
        keep(store, name, &BTreeSet::new())?;
    }
    let _locks = lock(store, names)?;
    let mut done = Vec::new();
    let mut sealed = Vec::new();
    for name in names {
        match settle(store, name)? {
            true => done.push((name.clone(), Put::Present)),
            false => sealed.push(name),
        }
    }
    if sealed.is_empty() {
        return Ok(done);
    }
    let mut candidates = store.metadata().all_valid()?;
    candidates.extend(names.iter().cloned());
    let scanner = Scanner::new(candidates);
    let merged = Merged::of(store)?;
    let mut infos = Vec::new();
    for name in &sealed {
        infos.push(seal_one(store, &merged, name, scanner.clone())?);
    }
    for info in &infos {
        keep(store, &info.name, &info.references)?;
    }
    store.register(infos)?;
    done.extend(sealed.into_iter().map(|name| (name.clone(), Put::Added)));
    Ok(done)
}

/// Makes one object canonical, and reads it.
fn seal_one(
    store: &Store,
    merged: &Merged,
    name: &ObjectName,
    scanner: Scanner,
) -> Result<PathInfo> {
    let place = merged.place(name)?;
    let what = format!("seal {}", place.path().display());
    store.interrupt().check(&what)?;
    if !in_upper(store, name)? {
        let error = match merged.has(name)? {
            true => Error::new(
                Kind::Negative,
                &what,
                "only the lower store has it, without a row",
            )
            .hint("have the lower store's owner register it"),
            false => Error::new(Kind::Negative, &what, "there is no such object")
                .hint("put it into the merged store first"),
        };
        return Err(error);
    }
    canonicalise(&place, Links::Refuse)?;
    scan(&place, name, scanner, store.interrupt(), &what)
}
