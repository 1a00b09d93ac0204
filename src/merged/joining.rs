// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory that only the upper had, and that the lower gains as well.
//!
//! What the kernel was told of names inside was true for the upper alone, for good. Invariant: when
//! such a directory begins to merge, the kernel asks again for every name that the lower has in it,
//! and so on below.

use super::lookup::is_sealed;
use super::node::{Merging, NodeId};
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, LayerId, Listed, Stat};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What a directory begins to merge with.
struct Joining {
    lower: Stat,
    settled: bool,
}

impl MergedFs {
    /// Lets the node of an upper directory, and the known ones below, merge with what the lower has
    /// under their names now, if they did not and may.
    pub(super) fn begin_to_merge(&self, top: NodeId) -> Outcome<()> {
        let Some(lower) = self.join(top)? else {
            return Ok(());
        };
        let mut known = self.upper_nodes();
        let mut pending = vec![(top, lower)];
        while let Some((id, lower)) = pending.pop() {
            self.lower.read_dir(lower.as_fd(), 0, |entry| {
                if !entry.is_dots() {
                    let name = entry.name.into();
                    self.notify(Notice::Name { parent: id, name });
                }
                Ok::<_, Errno>(Listed::More)
            })?;
            self.notify(Notice::Contents { node: id });
            for (child, _) in known.remove(&id).unwrap_or_default() {
                if let Some(lower) = self.join(child)? {
                    pending.push((child, lower));
                }
            }
        }
        Ok(())
    }

    /// Gives one node its lower side and returns it.
    fn join(&self, id: NodeId) -> Outcome<Option<Arc<OwnedFd>>> {
        let Some(joining) = self.joining(id)? else {
            return Ok(None);
        };
        self.table.with_mut(id, |node| {
            node.lower = Some(joining.lower.ino);
            node.merging = Merging::Merged;
            node.settled = joining.settled;
        })?;
        self.dir_fd(id, LayerId::Lower).map(Some)
    }

    fn joining(&self, id: NodeId) -> Outcome<Option<Joining>> {
        let place = self.table.with(id, |node| {
            let alone = node.upper.is_some() && node.lower.is_none() && node.held.is_none();
            let directory = alone && node.kind == Kind::Directory;
            directory.then(|| (node.parent, node.name.clone()))
        })?;
        let Some((parent, name)) = place else {
            return Ok(None);
        };
        let sides = self.sides(parent)?;
        let lower = self.probe_lower(parent, &sides, &name)?;
        let lower = lower.filter(|stat| stat.kind == Kind::Directory);
        let (Some(lower), Some(upper)) = (lower, &sides.upper) else {
            return Ok(None);
        };
        if self.merging_of(upper.as_fd(), &name)? != Merging::Merged {
            return Ok(None);
        }
        let settled = match parent {
            NodeId::ROOT => is_sealed(&lower),
            _ => self.table.with(parent, |node| node.settled)?,
        };
        Ok(Some(Joining { lower, settled }))
    }
}
