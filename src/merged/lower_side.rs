// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lower side of an upper directory comes, goes or becomes another one behind the mount.
//!
//! What the kernel was told of names inside was true for what was merged before, for good.
//! Invariant: when a directory merges with something else than before, the kernel asks again for
//! every name that either lower side has in it, and so on below; no descriptor of the old side is
//! used any more. A directory whose new side cannot be read stays as it was until the next lookup.

use super::locate::gone_is_stale;
use super::node::{Found, Merging, Node, NodeId};
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Errno, Ino, Kind, LayerId, Listed, Stat};
use hashbrown::HashMap;
use std::os::fd::AsFd;

/// What a directory merges with now.
struct LowerSide {
    dir: Stat,
    names: Vec<Box<[u8]>>,
}

/// A node as its parent knows it.
struct Child {
    id: NodeId,
    name: Box<[u8]>,
    has_upper: bool,
}

/// The nodes in each directory.
type Below = HashMap<NodeId, Vec<Child>>;

impl MergedFs {
    /// Follows the lower side of a directory that a lookup has found, if it is known with another.
    pub(super) fn follow_found(&self, found: &Found) -> Outcome<()> {
        if found.stat.kind != Kind::Directory {
            return Ok(());
        }
        let Some(id) = self.table.find(found) else {
            return Ok(());
        };
        let now = found.lower_dir.filter(|_| found.merging == Merging::Merged);
        if self.table.with(id, merged_with)? == Some(now) {
            return Ok(());
        }
        match self.follow_lower_side(id) {
            // What may not be read has no names that could be told.
            Err(Errno::ACCESS) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Follows the lower side of the node of an upper directory, and those below. Returns whether
    /// there was anything to follow.
    pub(super) fn follow_lower_side(&self, top: NodeId) -> Outcome<bool> {
        let mut below = None;
        let mut pending = vec![top];
        while let Some(id) = pending.pop() {
            let Some(before) = self.table.with(id, merged_with)? else {
                continue;
            };
            let now = self.lower_side(id)?;
            if before == now.as_ref().map(|side| side.dir.ino) {
                continue;
            }
            if !self.exchange(id, before, now.as_ref())? {
                continue;
            }
            let below = below.get_or_insert_with(|| self.nodes_below());
            self.ask_again(id, now, below);
            let children = below.get(&id).map_or(&[][..], Vec::as_slice);
            pending.extend(children.iter().filter(|c| c.has_upper).map(|c| c.id));
        }
        Ok(below.is_some())
    }

    /// Reads what is under the name of a directory in the lower, if that merges.
    fn lower_side(&self, id: NodeId) -> Outcome<Option<LowerSide>> {
        let (parent, name) = self
            .table
            .with(id, |node| (node.parent, node.name.clone()))?;
        let sides = self.sides(parent)?;
        let lower = self.probe_lower(parent, &sides, &name)?;
        let lower = lower.filter(|stat| stat.kind == Kind::Directory);
        let (Some(dir), Some(upper), Some(lower)) = (lower, &sides.upper, &sides.lower) else {
            return Ok(None);
        };
        if self.merging_of(upper.as_fd(), &name)? != Merging::Merged {
            return Ok(None);
        }
        let Some(real) = self.lower_name(parent, lower.as_fd(), &name)? else {
            return Ok(None);
        };
        let opened = self.lower.open_dir(lower.as_fd(), &real);
        let opened = opened.map_err(gone_is_stale)?;
        let mut names = Vec::new();
        self.lower.read_dir(opened.as_fd(), 0, |entry| {
            if !entry.is_dots() {
                names.push(entry.name.into());
            }
            Ok::<_, Errno>(Listed::More)
        })?;
        Ok(Some(LowerSide { dir, names }))
    }

    /// Gives one node another lower side, or none, at once: a directory that goes on merging is at no
    /// moment the upper's alone. Does nothing if somebody was faster.
    fn exchange(&self, id: NodeId, before: Option<Ino>, now: Option<&LowerSide>) -> Outcome<bool> {
        let parent = self.table.with(id, |node| node.parent)?;
        let (lower, merging, settled) = match now {
            Some(side) => {
                let settled = self.settled_below(parent, &side.dir)?;
                (Some(side.dir.ino), Merging::Merged, settled)
            }
            None if parent == NodeId::ROOT => (None, Merging::Unread, true),
            None => {
                let settled = self.table.with(parent, |node| node.settled)?;
                (None, Merging::Unread, settled)
            }
        };
        let exchanged = self.table.with_mut(id, |node| {
            let may = merged_with(node) == Some(before);
            if may {
                (node.lower, node.merging, node.settled) = (lower, merging, settled);
            }
            may
        })?;
        self.dirs.remove((id, LayerId::Lower));
        Ok(exchanged)
    }

    /// Has the kernel ask again for what either lower side of a directory has in it.
    fn ask_again(&self, id: NodeId, now: Option<LowerSide>, below: &Below) {
        let mut gone = vec![id];
        while let Some(parent) = gone.pop() {
            for child in below.get(&parent).map_or(&[][..], Vec::as_slice) {
                if !child.has_upper {
                    let name = child.name.clone();
                    self.notify(Notice::Name { parent, name });
                    self.dirs.remove((child.id, LayerId::Lower));
                    self.files.remove((child.id, LayerId::Lower));
                    gone.push(child.id);
                }
            }
        }
        for name in now.map_or_else(Vec::new, |side| side.names) {
            self.notify(Notice::Name { parent: id, name });
        }
        self.notify(Notice::Contents { node: id });
    }

    fn nodes_below(&self) -> Below {
        let mut below = Below::new();
        self.table.for_each(|id, node| {
            if node.held.is_none() {
                below.entry(node.parent).or_default().push(Child {
                    id,
                    name: node.name.clone(),
                    has_upper: node.upper.is_some(),
                });
            }
        });
        below
    }
}

/// With which lower directory the node of an upper directory merges, if with any; nothing for other
/// nodes.
fn merged_with(node: &Node) -> Option<Option<Ino>> {
    let directory = node.kind == Kind::Directory && node.upper.is_some() && node.held.is_none();
    directory.then(|| node.lower.filter(|_| node.merging != Merging::Opaque))
}
