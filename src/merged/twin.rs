// SPDX-License-Identifier: MIT OR Apache-2.0
//! A duplicate that vanishes from the upper behind the mount: its node goes on from its twin in
//! the lower, so that open files, mappings, programs, working directories and mounts inside
//! survive.
//!
//! Invariant: a node changes its backing only to an object of the same kind under the same name;
//! a file only to one of the same size and time. Anything else is ESTALE, and the kernel walks the
//! path again.

use super::locate::Circle;
use super::lookup::is_sealed;
use super::node::{Merging, Node, NodeId, Place, sign};
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, LayerId, Stat};
use hashbrown::HashMap;
use std::os::fd::AsFd;

/// How often an operation meets a name that is just being moved before it looks elsewhere.
const TRIES: u32 = 3;

/// Names from the top directory down to one node.
type Chain = Vec<(NodeId, Box<[u8]>, NodeId)>;

impl MergedFs {
    /// Runs an operation on a node; if the node's object vanished from the upper, once more from
    /// its twin.
    pub(super) fn surviving<T>(
        &self,
        id: NodeId,
        mut operation: impl FnMut() -> Outcome<T>,
    ) -> Outcome<T> {
        for _ in 0..TRIES {
            match operation() {
                // A name that is being moved leads nowhere for a moment: once it has arrived, the
                // node knows where.
                Err(Errno::STALE) => drop(self.moving.write()),
                other => return other,
            }
        }
        match operation() {
            Err(Errno::STALE) if self.heal(id)? => operation(),
            other => other,
        }
    }

    /// Looks for the first vanished object on the way to a node and adopts its twin. Returns
    /// whether there was one.
    fn heal(&self, id: NodeId) -> Outcome<bool> {
        let Some(chain) = self.chain(id)? else {
            return Ok(false);
        };
        for (parent, name, node) in chain {
            let known = self
                .table
                .with(node, |node| node.upper.map(|ino| (ino, node.birth)))?;
            let Some(known) = known else { continue };
            let sides = self.sides(parent)?;
            let upper = self.probe_upper(&sides, &name)?;
            if upper.is_some_and(|stat| (stat.ino, stat.birth) == known) {
                continue;
            }
            let lower = self.probe_lower(parent, &sides, &name)?;
            return match (upper, lower) {
                (None, Some(twin)) => self.adopt(node, parent, &twin),
                _ => Ok(false),
            };
        }
        Ok(false)
    }

    /// Returns the way to a node, or `None` if something on it was removed through the mount.
    fn chain(&self, id: NodeId) -> Outcome<Option<Chain>> {
        let mut chain = Chain::new();
        let mut at = id;
        let mut circle = Circle::new(id);
        while at != NodeId::ROOT {
            let (held, parent, name) = self.table.with(at, |node| {
                (node.held.is_some(), node.parent, node.name.clone())
            })?;
            if held {
                return Ok(None);
            }
            chain.push((parent, name, at));
            at = parent;
            circle.step(at)?;
        }
        chain.reverse();
        Ok(Some(chain))
    }

    /// Lets the node of a top-level name go on from `twin`, if its upper object is gone. For
    /// lookups that find the lower object where the upper one was.
    pub(super) fn adopt_top(&self, name: &[u8], twin: &Stat) -> Outcome<()> {
        if let Some(id) = self.tops.known_upper(name) {
            let upper = self.table.with(id, |node| {
                node.upper.is_some() && node.is_at(NodeId::ROOT, name) && node.held.is_none()
            });
            if upper == Ok(true) {
                self.adopt(id, NodeId::ROOT, twin)?;
            }
        }
        Ok(())
    }

    fn adopt(&self, id: NodeId, parent: NodeId, twin: &Stat) -> Outcome<bool> {
        let settled = match parent {
            NodeId::ROOT => is_sealed(twin),
            _ => self.table.with(parent, |node| node.settled)?,
        };
        if !self.switch(id, twin, settled)? {
            return Ok(false);
        }
        if twin.kind == Kind::Directory {
            self.switch_below(id, settled)?;
        }
        Ok(true)
    }

    /// Gives one node its twin as backing.
    fn switch(&self, id: NodeId, twin: &Stat, settled: bool) -> Outcome<bool> {
        let switched = self.table.with_mut(id, |node| {
            if !is_twin(node, twin) {
                return false;
            }
            node.upper = None;
            node.lower = Some(twin.ino);
            node.merging = Merging::Unread;
            (node.birth, node.settled) = (twin.birth, settled);
            true
        })?;
        if switched {
            self.table.stands_for(id, LayerId::Lower, twin.ino);
            self.dirs.remove_node(id);
            self.files.remove_node(id);
            // The number that stat shows has changed, and so have those in a listing. The bytes of
            // a file may have, although size and time agree: builds are not always reproducible.
            self.notify(Notice::Contents { node: id });
        }
        Ok(switched)
    }

    /// Switches every known node below a directory that was switched.
    fn switch_below(&self, top: NodeId, settled: bool) -> Outcome<()> {
        let mut children = self.upper_nodes();
        let mut pending = vec![top];
        while let Some(parent) = pending.pop() {
            let Some(below) = children.remove(&parent) else {
                continue;
            };
            let dir = self.dir_fd(parent, LayerId::Lower)?;
            for (id, (_, name)) in below {
                if self.hides(parent, dir.as_fd(), &name)? {
                    continue;
                }
                let Some(twin) = self.lower.probe(dir.as_fd(), &name)? else {
                    continue;
                };
                if self.switch(id, &twin, settled)? && twin.kind == Kind::Directory {
                    pending.push(id);
                }
            }
        }
        Ok(())
    }

    /// Returns every node with an upper object, by parent.
    fn upper_nodes(&self) -> HashMap<NodeId, Vec<(NodeId, Place)>> {
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        self.table.for_each(|id, node| {
            if node.upper.is_some() && node.held.is_none() {
                let place = (node.parent, node.name.clone());
                children.entry(node.parent).or_default().push((id, place));
            }
        });
        children
    }
}

fn is_twin(node: &Node, twin: &Stat) -> bool {
    let same_contents = match twin.kind {
        Kind::Directory => true,
        Kind::Regular => node.sign == sign(twin),
        // Nobody has anything else open in a way that a new node would disturb.
        Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => false,
    };
    node.upper.is_some() && node.kind == twin.kind && same_contents
}
