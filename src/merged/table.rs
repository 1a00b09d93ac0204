// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of nodes: lookup counts, identity and the tree of parents.
//!
//! Invariants: counts change only here, under the lock of the node's shard; no two shard locks
//! are ever held at once; a node stays as long as the kernel references it or a node below
//! names it as its parent.

use super::node::{Found, Moves, Node, NodeId};
use crate::layer::{Errno, Ino, LayerId};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

const SHARDS: usize = 64;
/// Set in the numbers of nodes whose inode number was taken; no inode number has it.
const PRIVATE: u64 = 1 << 63;

/// All nodes that the kernel may name.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<RwLock<HashMap<NodeId, Node>>>,
    /// Nodes that could not have their inode number, by layer and number.
    private: RwLock<HashMap<(LayerId, Ino), NodeId>>,
    next_private: AtomicU64,
}

impl Table {
    /// Starts with the root node, which the kernel never forgets.
    pub(super) fn new(root: Node) -> Table {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        let table = Table {
            shards,
            private: RwLock::default(),
            next_private: AtomicU64::new(PRIVATE),
        };
        table.shard(NodeId::ROOT).write().insert(NodeId::ROOT, root);
        table
    }

    fn shard(&self, id: NodeId) -> &RwLock<HashMap<NodeId, Node>> {
        // Neighbouring inode numbers are used together: a multiplication spreads them.
        let spread = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        &self.shards[spread as usize % SHARDS]
    }

    /// Calls `read` with the node; ESTALE if there is none.
    pub(super) fn with<T>(&self, id: NodeId, read: impl FnOnce(&Node) -> T) -> Result<T, Errno> {
        self.shard(id).read().get(&id).map(read).ok_or(Errno::STALE)
    }

    /// Calls `change` with the node; ESTALE if there is none.
    pub(super) fn with_mut<T>(
        &self,
        id: NodeId,
        change: impl FnOnce(&mut Node) -> T,
    ) -> Result<T, Errno> {
        self.shard(id)
            .write()
            .get_mut(&id)
            .map(change)
            .ok_or(Errno::STALE)
    }

    /// Adds one kernel reference to the node of the object `found` as `name` in `parent`.
    pub(super) fn admit(&self, parent: NodeId, name: &[u8], found: &Found) -> NodeId {
        let default = NodeId(found.stat.ino.0);
        if let Some(id) = self.standing_for(found)
            && self.admit_as(id, parent, name, found)
        {
            return id;
        }
        if default != NodeId::ROOT && self.admit_as(default, parent, name, found) {
            return default;
        }
        loop {
            let id = self.private_id(found);
            if self.admit_as(id, parent, name, found) {
                return id;
            }
            // The private node is another, older object as well: it keeps its number.
            self.private.write().remove(&(found.layer, found.stat.ino));
        }
    }

    /// Returns false if `id` is another object's.
    fn admit_as(&self, id: NodeId, parent: NodeId, name: &[u8], found: &Found) -> bool {
        let mut shard = self.shard(id).write();
        let moves = match shard.get_mut(&id) {
            None => {
                shard.insert(id, Node::new(parent, name, found));
                Moves {
                    entered: Some(parent),
                    left: None,
                }
            }
            Some(node) if node.is(found) => {
                node.lookups += 1;
                found.refresh(node);
                node.found_at(parent, name, found.is_linked())
            }
            Some(_) => return false,
        };
        drop(shard);
        self.count(moves);
        true
    }

    fn private_id(&self, found: &Found) -> NodeId {
        let next = || NodeId(self.next_private.fetch_add(1, Ordering::Relaxed));
        *self
            .private
            .write()
            .entry((found.layer, found.stat.ino))
            .or_insert_with(next)
    }

    /// Says that node `id` stands for the object `now` and no longer for `before`.
    pub(super) fn stands_for(&self, id: NodeId, before: (LayerId, Ino), now: (LayerId, Ino)) {
        let mut private = self.private.write();
        if private.get(&before) == Some(&id) {
            private.remove(&before);
        }
        if id.0 != now.1.0 {
            private.insert(now, id);
        }
    }

    /// Returns the node that stands for an object without having its number.
    fn standing_for(&self, found: &Found) -> Option<NodeId> {
        let private = self.private.read();
        if private.is_empty() {
            None
        } else {
            private.get(&(found.layer, found.stat.ino)).copied()
        }
    }

    /// Calls `each` with every node, in no order; nodes may come and go meanwhile.
    pub(super) fn for_each(&self, mut each: impl FnMut(NodeId, &Node)) {
        for shard in &self.shards {
            for (&id, node) in shard.read().iter() {
                each(id, node);
            }
        }
    }

    /// Returns the node of a known object, if the kernel holds one.
    pub(super) fn find(&self, found: &Found) -> Option<NodeId> {
        let default = NodeId(found.stat.ino.0);
        let matches = |id| self.with(id, |node| node.is(found)).unwrap_or(false);
        if default != NodeId::ROOT && matches(default) {
            return Some(default);
        }
        let private = self.standing_for(found);
        private.filter(|&id| matches(id))
    }

    /// Tells a node that its name `from` is now `to`.
    pub(super) fn moved(&self, id: NodeId, from: (NodeId, &[u8]), to: (NodeId, &[u8])) {
        // The new name first, kept beside the old one, so that one of them always stays.
        let added = self.with_mut(id, |node| node.found_at(to.0, to.1, true));
        let removed = self.with_mut(id, |node| node.gone_from(from.0, from.1));
        for moves in [added, removed] {
            self.count(moves.unwrap_or_default());
        }
    }

    /// Tells a node that its name `name` in `parent` is gone.
    pub(super) fn gone(&self, id: NodeId, parent: NodeId, name: &[u8]) {
        let moves = self.with_mut(id, |node| node.gone_from(parent, name));
        self.count(moves.unwrap_or_default());
    }

    /// Takes back `count` kernel references; returns the nodes that are gone with them: the node
    /// itself, and parents that were kept for it alone.
    pub(super) fn forget(&self, id: NodeId, count: u64) -> Vec<(NodeId, Node)> {
        if id == NodeId::ROOT {
            return Vec::new();
        }
        let gone = self.drop_if_unused(id, |node| {
            node.lookups = node.lookups.saturating_sub(count);
        });
        match gone {
            Some(node) => {
                let mut all = self.leave(node.parents().collect());
                all.push((id, node));
                all
            }
            None => Vec::new(),
        }
    }

    fn count(&self, moves: Moves) {
        if moves.entered == moves.left {
            return;
        }
        if let Some(parent) = moves.entered {
            // A parent that is unknown was forgotten with its whole branch: nothing to count.
            let _known = self.with_mut(parent, |node| node.children += 1);
        }
        // The kernel still holds every parent here; what is left for a late FORGET stays small.
        let _unused = self.leave(moves.left.into_iter().collect());
    }

    /// Takes one child from each of `parents`, and so on upwards; returns those that became unused.
    fn leave(&self, mut parents: Vec<NodeId>) -> Vec<(NodeId, Node)> {
        let mut gone = Vec::new();
        while let Some(parent) = parents.pop() {
            if parent == NodeId::ROOT {
                continue;
            }
            let dropped = self.drop_if_unused(parent, |node| {
                node.children = node.children.saturating_sub(1);
            });
            if let Some(node) = dropped {
                parents.extend(node.parents());
                gone.push((parent, node));
            }
        }
        gone
    }

    /// Changes the counts of a node and removes and returns it if nothing refers to it.
    fn drop_if_unused(&self, id: NodeId, change: impl FnOnce(&mut Node)) -> Option<Node> {
        let mut shard = self.shard(id).write();
        let node = shard.get_mut(&id)?;
        change(node);
        if node.lookups > 0 || node.children > 0 {
            return None;
        }
        let node = shard.remove(&id)?;
        drop(shard);
        if id.0 != node.ino().0 {
            let key = (node.layer(), node.ino());
            let mut private = self.private.write();
            if private.get(&key) == Some(&id) {
                private.remove(&key);
            }
        }
        Some(node)
    }

    /// Returns how many nodes are known.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Merging;
    use super::*;
    use crate::layer::{Kind, Stat, Timestamp};

    const EPOCH: Timestamp = Timestamp {
        seconds: 0,
        nanoseconds: 0,
    };

    fn found(ino: u64, kind: Kind, birth: u32) -> Found {
        let stat = Stat {
            ino: Ino(ino),
            kind,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: EPOCH,
            mtime: EPOCH,
            ctime: EPOCH,
            birth,
        };
        Found {
            stat,
            layer: LayerId::Upper,
            lower_dir: None,
            merging: Merging::Unread,
            settled: true,
        }
    }

    fn table() -> Table {
        Table::new(Node::new(NodeId::ROOT, b"", &found(2, Kind::Directory, 0)))
    }

    #[test]
    fn a_node_lives_as_long_as_it_is_referenced() {
        let table = table();
        let id = table.admit(NodeId::ROOT, b"a", &found(10, Kind::Regular, 1));
        assert_eq!(id, NodeId(10));
        assert_eq!(
            table.admit(NodeId::ROOT, b"a", &found(10, Kind::Regular, 1)),
            id
        );
        assert!(table.forget(id, 1).is_empty());
        assert!(!table.forget(id, 1).is_empty());
        assert_eq!(table.len(), 1);
        assert_eq!(table.with(id, |_| ()), Err(Errno::STALE));
    }

    #[test]
    fn a_parent_outlives_its_children() {
        let table = table();
        let dir = table.admit(NodeId::ROOT, b"d", &found(10, Kind::Directory, 1));
        let file = table.admit(dir, b"f", &found(11, Kind::Regular, 1));
        assert!(table.forget(dir, 1).is_empty());
        assert!(!table.forget(file, 1).is_empty());
        assert_eq!(table.len(), 1, "the directory went with its last child");
    }

    fn linked(ino: u64) -> Found {
        let mut found = found(ino, Kind::Regular, 1);
        found.stat.nlink = 2;
        found
    }

    #[test]
    fn hard_links_are_one_node_with_several_names() {
        let table = table();
        let one = table.admit(NodeId::ROOT, b"d", &found(10, Kind::Directory, 1));
        let two = table.admit(NodeId::ROOT, b"e", &found(12, Kind::Directory, 1));
        let file = table.admit(one, b"f", &linked(11));
        assert_eq!(table.admit(two, b"g", &linked(11)), file);
        assert_eq!(table.with(file, |n| n.parent), Ok(two));
        assert!(table.forget(one, 1).is_empty(), "one of the names is in it");
        table.gone(file, two, b"g");
        assert_eq!(table.with(file, |n| n.is_only_at(one, b"f")), Ok(true));
        table.gone(file, one, b"f");
        assert_eq!(
            table.with(file, |n| n.is_only_at(one, b"f")),
            Ok(true),
            "the last one stays"
        );
        assert!(!table.forget(file, 2).is_empty());
        assert!(!table.forget(two, 1).is_empty());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_moved_name_takes_its_place_along() {
        let table = table();
        let one = table.admit(NodeId::ROOT, b"d", &found(10, Kind::Directory, 1));
        let file = table.admit(NodeId::ROOT, b"f", &linked(11));
        table.admit(NodeId::ROOT, b"g", &linked(11));
        table.moved(file, (NodeId::ROOT, b"f"), (one, b"h"));
        assert_eq!(table.with(file, |n| n.is_at(one, b"h")), Ok(true));
        table.gone(file, one, b"h");
        assert_eq!(
            table.with(file, |n| n.is_only_at(NodeId::ROOT, b"g")),
            Ok(true)
        );
        assert!(!table.forget(one, 1).is_empty());
        assert!(!table.forget(file, 2).is_empty());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_file_that_moved_behind_the_mount_has_its_new_name_only() {
        let table = table();
        let one = table.admit(NodeId::ROOT, b"d", &found(10, Kind::Directory, 1));
        let two = table.admit(NodeId::ROOT, b"e", &found(12, Kind::Directory, 1));
        let file = table.admit(one, b"f", &found(11, Kind::Regular, 1));
        assert_eq!(table.admit(two, b"g", &found(11, Kind::Regular, 1)), file);
        assert_eq!(table.with(file, |n| n.is_only_at(two, b"g")), Ok(true));
        assert!(!table.forget(one, 1).is_empty());
        assert!(!table.forget(file, 2).is_empty());
        assert!(!table.forget(two, 1).is_empty());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn another_object_with_a_number_in_use_gets_a_private_node() {
        let table = table();
        let old = table.admit(NodeId::ROOT, b"a", &found(10, Kind::Regular, 1));
        let new = table.admit(NodeId::ROOT, b"b", &found(10, Kind::Regular, 2));
        assert_ne!(old, new);
        assert_eq!(table.find(&found(10, Kind::Regular, 2)), Some(new));
        assert_eq!(table.find(&found(10, Kind::Regular, 1)), Some(old));
        let third = table.admit(NodeId::ROOT, b"c", &found(10, Kind::Directory, 3));
        assert!(third != new && third != old);
        for id in [old, new, third] {
            assert!(!table.forget(id, 1).is_empty());
        }
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn inode_number_one_is_not_the_root() {
        let table = table();
        let id = table.admit(NodeId::ROOT, b"a", &found(1, Kind::Regular, 1));
        assert_ne!(id, NodeId::ROOT);
    }
}
