// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of an export stream: what an object refers to comes before it.
//!
//! Invariant: the order depends on names and references alone, and is that of Nix, so that the same
//! objects make the same stream.

use crate::error::{Error, Kind, Result};
use crate::store::{ObjectName, PathInfo};
use std::collections::btree_set;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the infos of `objects` with those first that others refer to. References to what is not
/// among them do not count.
pub fn dependencies_first(objects: &BTreeMap<ObjectName, PathInfo>) -> Result<Vec<&PathInfo>> {
    let mut order = Vec::with_capacity(objects.len());
    let mut met = BTreeSet::new();
    for info in objects.values() {
        visit(info, objects, &mut met, &mut order)?;
    }
    Ok(order)
}

/// An object whose references are being visited, and those that are left.
type Open<'a> = (&'a PathInfo, btree_set::Iter<'a, ObjectName>);

/// Visits what `info` refers to, then itself. As deep as chains of references may be, it does not
/// call itself.
fn visit<'a>(
    info: &'a PathInfo,
    objects: &'a BTreeMap<ObjectName, PathInfo>,
    met: &mut BTreeSet<&'a ObjectName>,
    order: &mut Vec<&'a PathInfo>,
) -> Result<()> {
    let mut open: Vec<Open<'a>> = Vec::new();
    let mut on_the_way = BTreeSet::new();
    if met.insert(&info.name) {
        on_the_way.insert(&info.name);
        open.push((info, info.references.iter()));
    }
    while let Some((info, left)) = open.last_mut() {
        let info = *info;
        let Some(name) = left.next() else {
            on_the_way.remove(&info.name);
            order.push(info);
            open.pop();
            continue;
        };
        let Some(next) = objects.get(name).filter(|next| next.name != info.name) else {
            continue;
        };
        if on_the_way.contains(&next.name) {
            return Err(cycle(info, next));
        }
        if met.insert(&next.name) {
            on_the_way.insert(&next.name);
            open.push((next, next.references.iter()));
        }
    }
    Ok(())
}

fn cycle(info: &PathInfo, next: &PathInfo) -> Error {
    let why = format!(
        "{} refers to {}, and that to it again",
        info.name, next.name
    );
    Error::new(Kind::Corrupt, "order objects by their references", why)
        .hint("references of valid objects have no cycles: the database is damaged")
}
