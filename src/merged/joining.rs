// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory that only the upper had, and that the lower gains as well.
//!
//! What the kernel was told of names inside was true for the upper alone, for good. Invariant: when
//! such a directory begins to merge, the kernel asks again for every name that the lower has in it,
//! and so on below.

use super::locate::gone_is_stale;
use super::node::{Merging, Node, NodeId};
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, Listed, Stat};
use std::os::fd::AsFd;

/// What a directory begins to merge with.
struct Joining {
    lower: Stat,
    settled: bool,
    names: Vec<Box<[u8]>>,
}

impl MergedFs {
    /// Lets the node of an upper directory, and the known ones below, merge with what the lower has
    /// under their names now, if they did not and may. A node whose lower side cannot be read stays
    /// as it was; the next lookup tries again.
    pub(super) fn begin_to_merge(&self, top: NodeId) -> Outcome<()> {
        let mut known = None;
        let mut pending = vec![top];
        while let Some(id) = pending.pop() {
            let Some(joining) = self.joining(id)? else {
                continue;
            };
            if !self.join(id, &joining)? {
                continue;
            }
            for name in joining.names {
                self.notify(Notice::Name { parent: id, name });
            }
            self.notify(Notice::Contents { node: id });
            let known = known.get_or_insert_with(|| self.upper_nodes());
            let below = known.remove(&id).unwrap_or_default();
            pending.extend(below.into_iter().map(|(child, _)| child));
        }
        Ok(())
    }

    /// Gives one node its lower side, unless it has changed meanwhile.
    fn join(&self, id: NodeId, joining: &Joining) -> Outcome<bool> {
        self.table.with_mut(id, |node| {
            let may = is_alone(node);
            if may {
                node.lower = Some(joining.lower.ino);
                node.merging = Merging::Merged;
                node.settled = joining.settled;
            }
            may
        })
    }

    fn joining(&self, id: NodeId) -> Outcome<Option<Joining>> {
        let place = self.table.with(id, |node| {
            is_alone(node).then(|| (node.parent, node.name.clone()))
        })?;
        let Some((parent, name)) = place else {
            return Ok(None);
        };
        let sides = self.sides(parent)?;
        let lower = self.probe_lower(parent, &sides, &name)?;
        let lower = lower.filter(|stat| stat.kind == Kind::Directory);
        let (Some(lower), Some(upper), Some(dir)) = (lower, &sides.upper, &sides.lower) else {
            return Ok(None);
        };
        if self.merging_of(upper.as_fd(), &name)? != Merging::Merged {
            return Ok(None);
        }
        let dir = self
            .lower
            .open_dir(dir.as_fd(), &name)
            .map_err(gone_is_stale)?;
        let mut names = Vec::new();
        self.lower.read_dir(dir.as_fd(), 0, |entry| {
            if !entry.is_dots() {
                names.push(entry.name.into());
            }
            Ok::<_, Errno>(Listed::More)
        })?;
        Ok(Some(Joining {
            settled: self.settled_below(parent, &lower)?,
            lower,
            names,
        }))
    }
}

/// Whether a node is an upper directory that merges with nothing.
fn is_alone(node: &Node) -> bool {
    let alone = node.upper.is_some() && node.lower.is_none() && node.held.is_none();
    alone && node.kind == Kind::Directory
}
