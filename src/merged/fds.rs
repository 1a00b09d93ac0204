// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors kept open for nodes that are in use.
//!
//! Invariant: their number is bounded and independent of the number of nodes; what falls out
//! can be opened again.

use super::node::NodeId;
use crate::layer::LayerId;
use hashbrown::HashMap;
use parking_lot::Mutex;

const SHARDS: u64 = 16;

/// Returns how many directories and how many files may be kept open, given the limit on
/// descriptors: at most half of it, and no more than is of use.
pub(super) fn capacities() -> (usize, usize) {
    let limit = limit();
    ((limit / 4).clamp(16, 2048), (limit / 8).clamp(16, 512))
}

/// Returns how many descriptors this process may have.
pub(super) fn limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

/// What a descriptor is kept under.
pub(super) type Key = (NodeId, LayerId);

/// A bounded cache; the least recently used value of a shard makes room.
#[derive(Debug)]
pub(super) struct Cache<V> {
    shards: Vec<Mutex<Shard<V>>>,
    shard_capacity: usize,
}

#[derive(Debug)]
struct Shard<V> {
    entries: HashMap<Key, (V, u64)>,
    clock: u64,
}

impl<V: Clone> Cache<V> {
    /// Makes room for about `capacity` values.
    pub(super) fn new(capacity: usize) -> Self {
        let empty = || {
            Mutex::new(Shard {
                entries: HashMap::new(),
                clock: 0,
            })
        };
        let shard_capacity = (capacity / SHARDS as usize).max(1);
        Cache {
            shards: (0..SHARDS).map(|_| empty()).collect(),
            shard_capacity,
        }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard<V>> {
        let spread = key.0.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
        &self.shards[(spread % SHARDS) as usize]
    }

    /// Returns the value kept for `key`.
    pub(super) fn get(&self, key: Key) -> Option<V> {
        let mut shard = self.shard(key).lock();
        shard.clock += 1;
        let now = shard.clock;
        let (value, used) = shard.entries.get_mut(&key)?;
        *used = now;
        Some(value.clone())
    }

    /// Keeps `value` for `key`, instead of what was kept.
    pub(super) fn put(&self, key: Key, value: V) {
        let mut shard = self.shard(key).lock();
        shard.clock += 1;
        let now = shard.clock;
        if shard.entries.len() >= self.shard_capacity && !shard.entries.contains_key(&key) {
            let oldest = shard.entries.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(&key, _)| key) {
                shard.entries.remove(&oldest);
            }
        }
        shard.entries.insert(key, (value, now));
    }

    /// Drops what is kept for `key`.
    pub(super) fn remove(&self, key: Key) {
        self.shard(key).lock().entries.remove(&key);
    }

    /// Drops everything kept in one layer.
    pub(super) fn remove_layer(&self, layer: LayerId) {
        for shard in &self.shards {
            shard.lock().entries.retain(|key, _| key.1 != layer);
        }
    }

    /// Drops everything kept for a node.
    pub(super) fn remove_node(&self, id: NodeId) {
        self.remove((id, LayerId::Upper));
        self.remove((id, LayerId::Lower));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let cache = Cache::new(16 * 2);
        // Keys of one shard: equal spread.
        let same: Vec<u64> = (0..4000u64)
            .filter(|id| id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 == 3)
            .take(3)
            .collect();
        let key = |at: usize| (NodeId(same[at]), LayerId::Upper);
        cache.put(key(0), 'a');
        cache.put(key(1), 'b');
        assert_eq!(cache.get(key(0)), Some('a'));
        cache.put(key(2), 'c');
        assert_eq!(cache.get(key(1)), None);
        assert_eq!(cache.get(key(0)), Some('a'));
        cache.remove_node(NodeId(same[0]));
        assert_eq!(cache.get(key(0)), None);
    }
}
