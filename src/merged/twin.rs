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
use crate::layer::{Errno, Kind, LayerId, Listed, Stat};
use hashbrown::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long a change of a name may take.
const MOVE: Duration = Duration::from_millis(50);
/// How often an operation meets a name that is just being moved before it looks elsewhere.
const TRIES: u32 = 3;

/// Names from the top directory down to one node.
type Chain = Vec<(NodeId, Box<[u8]>, NodeId)>;

impl MergedFs {
    /// Runs an operation on a node; if the node's object vanished from the upper, once more from
    /// its twin.
    ///
    /// What the lower has to do with it is tried once more where it fails.
    pub(super) fn surviving<T>(
        &self,
        id: NodeId,
        mut operation: impl FnMut() -> Outcome<T>,
    ) -> Outcome<T> {
        self.once_more(id, || self.healing(id, &mut operation))
    }

    /// Waits until those who are changing names have finished, but not for one whom a lower that
    /// hangs keeps.
    pub(super) fn wait_for_moves(&self) {
        drop(self.moving.try_write_for(MOVE));
    }

    fn healing<T>(&self, id: NodeId, operation: &mut impl FnMut() -> Outcome<T>) -> Outcome<T> {
        for _ in 0..TRIES {
            match operation() {
                // A name that is being moved leads nowhere for a moment: once it has arrived, the
                // node knows where.
                Err(Errno::STALE) => self.wait_for_moves(),
                other => return other,
            }
        }
        match operation() {
            Err(Errno::STALE) if self.heal(id)? => operation(),
            other => other,
        }
    }

    /// Looks for vanished objects on the way to a node and lets their nodes go on from what is
    /// there now. Returns whether there was one.
    fn heal(&self, id: NodeId) -> Outcome<bool> {
        let Some(chain) = self.chain(id)? else {
            return Ok(false);
        };
        let mut healed = false;
        for (parent, name, node) in chain {
            let known = self
                .table
                .with(node, |node| node.upper.map(|ino| (ino, node.birth)))?;
            let sides = self.sides(parent)?;
            let upper = self.probe_upper(&sides, &name)?;
            if known.is_some() && upper.map(|stat| (stat.ino, stat.birth)) == known {
                healed |= self.follow_lower_side(node)?;
                continue;
            }
            let lower = self.probe_lower(parent, &sides, &name)?;
            let (None, Some(now)) = (upper, lower) else {
                return Ok(healed);
            };
            if known.is_some() {
                let other = self.lives_on(node, parent, &name);
                return Ok(other || self.adopt(node, parent, &now)? || healed);
            }
            healed |= self.renumber(node, parent, &now)?;
        }
        Ok(healed)
    }

    /// Returns the way to a node, or `None` if something on it was removed through the mount.
    pub(super) fn chain(&self, id: NodeId) -> Outcome<Option<Chain>> {
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

    /// Lets the node of a top-level name go on from `twin`, if its upper object is gone or its
    /// lower one has another number now. For lookups that find the lower object.
    pub(super) fn adopt_top(&self, name: &[u8], twin: &Stat) -> Outcome<()> {
        let Some(id) = self.tops.known(name) else {
            return Ok(());
        };
        let upper = self.table.with(id, |node| {
            let here = node.is_at(NodeId::ROOT, name) && node.held.is_none();
            here.then_some(node.upper.is_some())
        });
        match upper {
            Ok(Some(true)) if self.lives_on(id, NodeId::ROOT, name) => Ok(()),
            Ok(Some(true)) => self.adopt(id, NodeId::ROOT, twin).map(drop),
            Ok(Some(false)) if self.lower.renumbers() => {
                self.renumber(id, NodeId::ROOT, twin).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether the object of a node whose name `name` in `parent` went has other names that are known.
    /// Its node is theirs alone then: they do not lead to the twin.
    fn lives_on(&self, id: NodeId, parent: NodeId, name: &[u8]) -> bool {
        let only = self.table.with(id, |node| node.is_only_at(parent, name));
        let others = only == Ok(false);
        if others {
            self.table.gone(id, parent, name);
        }
        others
    }

    fn adopt(&self, id: NodeId, parent: NodeId, twin: &Stat) -> Outcome<bool> {
        let settled = self.settled_below(parent, twin)?;
        if !self.switch(id, twin, settled)? {
            return Ok(false);
        }
        if twin.kind == Kind::Directory {
            self.switch_below(id, settled)?;
        }
        Ok(true)
    }

    /// Whether what `parent` has under the name of the lower object `found` is finished.
    pub(super) fn settled_below(&self, parent: NodeId, found: &Stat) -> Outcome<bool> {
        match parent {
            NodeId::ROOT => Ok(is_sealed(found)),
            _ => self.table.with(parent, |node| node.settled),
        }
    }

    /// Gives one node its twin as backing.
    fn switch(&self, id: NodeId, twin: &Stat, settled: bool) -> Outcome<bool> {
        self.rest_on(id, twin, settled, |node| is_twin(node, twin))
    }

    /// Lets a node of the lower go on from the object that has its name now: the same kind, and for
    /// all but directories the same size and time. A filesystem may have numbered it anew, and
    /// `nix-store --optimise` puts a link to an equal file in the place of a finished one.
    fn renumber(&self, id: NodeId, parent: NodeId, now: &Stat) -> Outcome<bool> {
        let settled = self.settled_below(parent, now)?;
        self.rest_on(id, now, settled, |node| {
            let same = now.kind == Kind::Directory || node.sign == sign(now);
            let other = node.lower != Some(now.ino) || node.birth != now.birth;
            node.upper.is_none() && node.kind == now.kind && same && other
        })
    }

    /// Gives one node a lower object as backing, if it `may` have it. The number that stat shows
    /// changes, and those in a listing. The bytes of a file may, although size and time agree:
    /// builds are not always reproducible. So what the kernel has of it goes.
    fn rest_on(
        &self,
        id: NodeId,
        object: &Stat,
        settled: bool,
        may: impl FnOnce(&Node) -> bool,
    ) -> Outcome<bool> {
        let before = self.table.with_mut(id, |node| {
            if !may(node) {
                return None;
            }
            let before = (node.layer(), node.ino());
            node.upper = None;
            node.lower = Some(object.ino);
            node.merging = Merging::Unread;
            (node.birth, node.settled) = (object.birth, settled);
            Some(before)
        })?;
        let Some(before) = before else {
            return Ok(false);
        };
        self.table
            .stands_for(id, before, (LayerId::Lower, object.ino));
        self.dirs.remove_node(id);
        self.files.remove_node(id);
        self.notify(Notice::Contents { node: id });
        Ok(true)
    }

    /// Switches every known node below a directory that was switched.
    fn switch_below(&self, top: NodeId, settled: bool) -> Outcome<()> {
        let mut children = self.upper_nodes();
        let mut pending = vec![top];
        while let Some(parent) = pending.pop() {
            let below = children.remove(&parent).unwrap_or_default();
            let dir = self.dir_fd(parent, LayerId::Lower)?;
            self.uncover(parent, dir.as_fd(), &below)?;
            for (id, (_, name)) in below {
                if self.hides(parent, dir.as_fd(), &name)? {
                    continue;
                }
                if self.lives_on(id, parent, &name) {
                    self.notify(Notice::Name { parent, name });
                    continue;
                }
                let twin = self.lower.probe(dir.as_fd(), &name)?;
                let switched = match &twin {
                    Some(twin) => self.switch(id, twin, settled)?,
                    None => false,
                };
                if !switched {
                    // It leads to another object now, or nowhere.
                    self.notify(Notice::Name { parent, name });
                } else if twin.is_some_and(|twin| twin.kind == Kind::Directory) {
                    pending.push(id);
                }
            }
        }
        Ok(())
    }

    /// Has the kernel ask again for names that the upper side, which went, may have hidden: by a
    /// whiteout, or because it was opaque. Those of known upper objects are looked after one by one.
    fn uncover(
        &self,
        parent: NodeId,
        dir: BorrowedFd<'_>,
        below: &[(NodeId, Place)],
    ) -> Outcome<()> {
        let known: HashSet<&[u8]> = below.iter().map(|(_, (_, name))| &**name).collect();
        self.lower.read_dir(dir, 0, |entry| {
            if !entry.is_dots() && !known.contains(entry.name) {
                let name = entry.name.into();
                self.notify(Notice::Name { parent, name });
            }
            Ok::<_, Errno>(Listed::More)
        })?;
        self.notify(Notice::Contents { node: parent });
        Ok(())
    }

    /// Returns every name of a node with an upper object, by parent.
    fn upper_nodes(&self) -> HashMap<NodeId, Vec<(NodeId, Place)>> {
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        self.table.for_each(|id, node| {
            if node.upper.is_some() && node.held.is_none() {
                for (parent, name) in node.places() {
                    let place = (parent, name.into());
                    children.entry(parent).or_default().push((id, place));
                }
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
