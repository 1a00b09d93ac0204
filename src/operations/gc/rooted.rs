// SPDX-License-Identifier: MIT OR Apache-2.0
//! The roots of a store that is being collected.
//!
//! Invariant: every kind of root is looked for, or the collection fails.

use super::super::Store;
use crate::error::Result;
use crate::metadata::Source;
use crate::roots::{
    Root, Stale, StoreDirs, ask_roots_daemon, find_permanent_roots, find_runtime_roots,
};
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long a roots daemon may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds the permanent roots and what running processes use. Roots of the lower store's own state
/// keep nothing of the upper.
pub(super) fn find(store: &Store, state: &Path, stale: Stale) -> Result<BTreeSet<Root>> {
    let is_valid = |name: &ObjectName| store.metadata().is_valid(name);
    let (dir, interrupt) = (store.dir(), store.interrupt());
    let mut roots = find_permanent_roots(state, dir, stale, &is_valid, interrupt)?.roots;
    if store.layout().settings.use_roots_daemon {
        let link = state.join("gc-roots-socket/socket");
        for object in ask_roots_daemon(state, dir, PATIENCE, interrupt)? {
            if is_valid(&object)? {
                let link = link.clone();
                roots.insert(Root { link, object });
            }
        }
    } else {
        let directories = StoreDirs::new(dir, [store.layout().merged.clone()]);
        roots.append(&mut find_runtime_roots(&directories, &is_valid, interrupt)?);
    }
    Ok(roots)
}
