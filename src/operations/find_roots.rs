// SPDX-License-Identifier: MIT OR Apache-2.0
//! The roots of an overlay store, whoever asks: a collector, or a user.
//!
//! Invariant: every kind of root is looked for, or it is an error. Roots of the lower store's own
//! state keep nothing of the upper, and are not looked at.

use super::store_dir;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::metadata::Source;
use crate::roots::{
    Interrupt, Root, Stale, StoreDirs, ask_roots_daemon, find_permanent_roots, find_runtime_roots,
    list_temp_roots,
};
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a roots daemon may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists everything that keeps objects of `layout` now, the temporary roots of processes included, for
/// who only wants to know.
pub fn list_roots(
    layout: &Layout,
    source: &dyn Source,
    interrupt: &Interrupt,
) -> Result<BTreeSet<Root>> {
    let mut roots = find_roots(layout, source, Stale::Keep, interrupt)?;
    if let Some(state) = layout.state.as_deref() {
        roots.append(&mut list_temp_roots(state, &store_dir(layout)?)?);
    }
    Ok(roots)
}

/// Finds the permanent roots of `layout`, and what running processes use: what `source`, its
/// metadata, has as valid. Temporary roots are not among them.
pub fn find_roots(
    layout: &Layout,
    source: &dyn Source,
    stale: Stale,
    interrupt: &Interrupt,
) -> Result<BTreeSet<Root>> {
    let state = layout.state.as_deref().ok_or_else(|| {
        Error::usage("look for roots", "mount options name no state directory")
            .hint("give a store URL")
    })?;
    let dir = store_dir(layout)?;
    let is_valid = |name: &ObjectName| source.is_valid(name);
    let mut roots = find_permanent_roots(state, &dir, stale, &is_valid, interrupt)?.roots;
    if !layout.settings.use_roots_daemon {
        let directories = StoreDirs::new(&dir, [layout.merged.clone()]);
        roots.append(&mut find_runtime_roots(&directories, &is_valid, interrupt)?);
        return Ok(roots);
    }
    let link = state.join("gc-roots-socket/socket");
    for object in ask_roots_daemon(state, &dir, PATIENCE, interrupt)? {
        if is_valid(&object)? {
            let link = link.clone();
            roots.insert(Root { link, object });
        }
    }
    Ok(roots)
}
