// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of objects in the top directory that may get another backing, by name.
//!
//! Invariant: a hint only. Whoever takes a node from here checks that it still has the name.

use super::node::NodeId;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use parking_lot::RwLock;
use std::hash::BuildHasher;

const SHARDS: usize = 16;
/// Missing names that are remembered in one shard: about a million in all, so that asking for
/// names that nobody has does not use up the memory.
const MAX_ABSENT: usize = 1 << 16;

/// Where to find the node that a top-level name last led to.
#[derive(Debug)]
pub(super) struct Tops {
    shards: [RwLock<HashMap<Box<[u8]>, NodeId>>; SHARDS],
    /// Digests of names that the kernel may believe to be missing for ever.
    absent: [RwLock<HashSet<u64>>; SHARDS],
    hasher: DefaultHashBuilder,
}

impl Tops {
    pub(super) fn new() -> Tops {
        Tops {
            shards: Default::default(),
            absent: Default::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Remembers that the kernel is about to be told of no such name; `false` if no more of them
    /// can be remembered.
    pub(super) fn remember_absent(&self, name: &[u8]) -> bool {
        let digest = self.hasher.hash_one(name);
        let shard = &self.absent[(digest >> 32) as usize % SHARDS];
        if shard.read().contains(&digest) {
            return true;
        }
        let mut shard = shard.write();
        let room = shard.len() < MAX_ABSENT;
        if room {
            shard.insert(digest);
        }
        room
    }

    /// Whether the kernel was told of no such name, ever.
    pub(super) fn was_absent(&self, name: &[u8]) -> bool {
        let digest = self.hasher.hash_one(name);
        self.absent[(digest >> 32) as usize % SHARDS]
            .read()
            .contains(&digest)
    }

    fn shard(&self, name: &[u8]) -> &RwLock<HashMap<Box<[u8]>, NodeId>> {
        let spread = self.hasher.hash_one(name) >> 32;
        &self.shards[spread as usize % SHARDS]
    }

    /// Returns the node that `name` last led to.
    pub(super) fn known(&self, name: &[u8]) -> Option<NodeId> {
        self.shard(name).read().get(name).copied()
    }

    /// Remembers that `name` leads to the object of `id`.
    pub(super) fn remember(&self, name: &[u8], id: NodeId) {
        if self.known(name) != Some(id) {
            self.shard(name).write().insert(name.into(), id);
        }
    }

    /// Drops what was remembered of `name`, if it is about `id`.
    pub(super) fn forget(&self, name: &[u8], id: NodeId) {
        let mut shard = self.shard(name).write();
        if shard.get(name) == Some(&id) {
            shard.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_names_are_remembered_up_to_a_bound() {
        let tops = Tops::new();
        assert!(!tops.was_absent(b"a"));
        assert!(tops.remember_absent(b"a"));
        assert!(tops.was_absent(b"a"));
        let all = (0..2 * SHARDS * MAX_ABSENT).filter(|n| tops.remember_absent(&n.to_ne_bytes()));
        assert!(all.count() <= SHARDS * MAX_ABSENT);
        assert!(tops.remember_absent(b"a"), "what is remembered stays");
    }
}
