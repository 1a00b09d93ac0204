// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listing of a merged directory, with positions that do not move.
//!
//! Invariant: a name keeps its position as long as either layer has it; new names come at the
//! end; a position is never given to another name. So a half-read stream repeats nothing and
//! misses nothing that was there all the time. Nothing is kept of a name that no layer has.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::BTreeMap;
use std::hash::BuildHasher;

/// What one layer's directory says of one name: number and kind, both of the caller's choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<I> {
    /// What the caller wants back for a name that is shown.
    pub info: I,
    /// Whether it is the character device 0/0.
    pub whiteout: bool,
}

/// One name that the merged view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visible<'a, I> {
    /// The name.
    pub name: &'a [u8],
    /// The info of the layer that wins.
    pub info: I,
    /// The position of the next entry.
    pub next: u64,
}

#[derive(Debug)]
struct Slot<I> {
    name: Box<[u8]>,
    upper: Option<Item<I>>,
    lower: Option<Item<I>>,
}

impl<I: Copy> Slot<I> {
    fn visible(&self) -> Option<I> {
        match (self.upper, self.lower) {
            (None, lower) => lower.filter(|item| !item.whiteout),
            (Some(upper), Some(lower)) if upper.whiteout && !lower.whiteout => None,
            (upper, _) => upper,
        }
        .map(|item| item.info)
    }
}

/// Which layer a scan brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Upper,
    Lower,
}

/// The names of both layers of one directory.
#[derive(Debug)]
pub struct Listing<I> {
    /// By position. Only names that a layer has are kept.
    slots: BTreeMap<u64, Slot<I>>,
    /// The position of the next new name.
    end: u64,
    index: HashTable<u64>,
    hasher: DefaultHashBuilder,
}

impl<I> Default for Listing<I> {
    fn default() -> Self {
        Listing {
            slots: BTreeMap::new(),
            end: 0,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<I: Copy> Listing<I> {
    /// Replaces what is known of the upper by a complete scan of it.
    pub fn set_upper(&mut self, scan: impl IntoIterator<Item = (Box<[u8]>, Item<I>)>) {
        self.replace(Layer::Upper, scan);
    }

    /// Replaces what is known of the lower by a complete scan of it.
    pub fn set_lower(&mut self, scan: impl IntoIterator<Item = (Box<[u8]>, Item<I>)>) {
        self.replace(Layer::Lower, scan);
    }

    /// Returns the names shown from `position` on, in order.
    pub fn from(&self, position: u64) -> impl Iterator<Item = Visible<'_, I>> {
        self.slots.range(position..).filter_map(|(&at, slot)| {
            let info = slot.visible()?;
            Some(Visible {
                name: &slot.name,
                info,
                next: at + 1,
            })
        })
    }

    fn replace(&mut self, layer: Layer, scan: impl IntoIterator<Item = (Box<[u8]>, Item<I>)>) {
        for slot in self.slots.values_mut() {
            *side(slot, layer) = None;
        }
        for (name, item) in scan {
            let slot = self.slot_of(name);
            *side(slot, layer) = Some(item);
        }
        self.drop_gone();
    }

    fn slot_of(&mut self, name: Box<[u8]>) -> &mut Slot<I> {
        let hash = self.hasher.hash_one(&*name);
        let (slots, hasher) = (&mut self.slots, &self.hasher);
        let same = |at: &u64| slots.get(at).is_some_and(|slot| slot.name == name);
        let at = self.index.find(hash, same).copied().unwrap_or_else(|| {
            let at = self.end;
            self.end += 1;
            let rehash = |at: &u64| slots.get(at).map_or(0, |slot| hasher.hash_one(&*slot.name));
            self.index.insert_unique(hash, at, rehash);
            at
        });
        slots.entry(at).or_insert_with(|| Slot {
            name,
            upper: None,
            lower: None,
        })
    }

    fn drop_gone(&mut self) {
        let (index, hasher) = (&mut self.index, &self.hasher);
        self.slots.retain(|&at, slot| {
            let stays = slot.upper.is_some() || slot.lower.is_some();
            if !stays
                && let Ok(entry) = index.find_entry(hasher.hash_one(&*slot.name), |&i| i == at)
            {
                entry.remove();
            }
            stays
        });
    }
}

fn side<I>(slot: &mut Slot<I>, layer: Layer) -> &mut Option<Item<I>> {
    match layer {
        Layer::Upper => &mut slot.upper,
        Layer::Lower => &mut slot.lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn item(info: u32, whiteout: bool) -> Item<u32> {
        Item { info, whiteout }
    }

    fn scan(names: &[(&str, Item<u32>)]) -> Vec<(Box<[u8]>, Item<u32>)> {
        names
            .iter()
            .map(|(name, item)| (name.as_bytes().into(), *item))
            .collect()
    }

    fn names(listing: &Listing<u32>, from: u64) -> Vec<String> {
        listing
            .from(from)
            .map(|v| String::from_utf8(v.name.to_vec()).expect("ascii"))
            .collect()
    }

    #[test]
    fn the_upper_wins_and_whiteouts_hide() {
        let mut listing = Listing::default();
        listing.set_upper(scan(&[
            ("a", item(1, false)),
            ("b", item(2, true)),
            ("c", item(3, true)),
        ]));
        listing.set_lower(scan(&[
            ("a", item(4, false)),
            ("b", item(5, false)),
            ("d", item(6, true)),
        ]));
        let shown: Vec<_> = listing.from(0).map(|v| (v.name.to_vec(), v.info)).collect();
        assert_eq!(shown, [(b"a".to_vec(), 1), (b"c".to_vec(), 3)]);
    }

    #[test]
    fn a_half_read_stream_goes_on_where_it_was() {
        let mut listing = Listing::default();
        listing.set_lower(scan(&[
            ("a", item(1, false)),
            ("b", item(2, false)),
            ("c", item(3, false)),
        ]));
        let after_a = listing.from(0).next().expect("a").next;
        listing.set_lower(scan(&[
            ("z", item(9, false)),
            ("c", item(3, false)),
            ("b", item(2, false)),
        ]));
        assert_eq!(names(&listing, after_a), ["b", "c", "z"]);
        listing.set_lower(scan(&[("a", item(1, false)), ("c", item(3, false))]));
        assert_eq!(
            names(&listing, 0),
            ["c", "a"],
            "a returned, at a new position"
        );
    }

    #[test]
    fn names_that_come_and_go_leave_nothing() {
        let mut listing = Listing::default();
        let mut last = 0;
        for number in 0..10_000 {
            let name = format!("{number}.tmp");
            listing.set_upper(scan(&[(&name, item(number, false))]));
            let shown = listing.from(0).next().expect("the only name").next;
            assert!(shown > last, "{name} got an old position");
            last = shown;
        }
        listing.set_upper([]);
        assert!(listing.slots.is_empty() && listing.index.is_empty());
        assert_eq!(listing.from(0).count(), 0);
    }

    proptest! {
        /// Against the rules of `resolve` on plain maps; positions grow and never move.
        #[test]
        fn agrees_with_resolve(
            rounds in prop::collection::vec(
                (
                    prop::collection::btree_map("[a-e]{1,2}", any::<bool>(), 0..8),
                    prop::collection::btree_map("[a-e]{1,2}", any::<bool>(), 0..8),
                ),
                1..4,
            )
        ) {
            use crate::merge::{Probe, Resolution, resolve};
            let mut listing = Listing::default();
            let mut positions: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            for (upper, lower) in rounds {
                let load = |map: &BTreeMap<String, bool>, info| -> Vec<(Box<[u8]>, Item<u32>)> {
                    map.iter().map(|(n, w)| (n.as_bytes().into(), item(info, *w))).collect()
                };
                listing.set_upper(load(&upper, 1));
                listing.set_lower(load(&lower, 2));
                let probe = |map: &BTreeMap<String, bool>, name: &String| match map.get(name) {
                    None => Probe::Absent,
                    Some(true) => Probe::Whiteout,
                    Some(false) => Probe::Leaf,
                };
                let all: BTreeSet<&String> = upper.keys().chain(lower.keys()).collect();
                let expected: BTreeMap<Vec<u8>, u32> = all.into_iter().filter_map(|name| {
                    let info = match resolve(probe(&upper, name), probe(&lower, name)) {
                        Resolution::Absent => return None,
                        Resolution::Lower => 2,
                        Resolution::Upper | Resolution::Merged => 1,
                    };
                    Some((name.as_bytes().to_vec(), info))
                }).collect();
                let mut seen = BTreeMap::new();
                for shown in listing.from(0) {
                    prop_assert!(seen.insert(shown.name.to_vec(), shown.info).is_none());
                    positions.insert(shown.name.to_vec(), shown.next);
                }
                prop_assert_eq!(seen, expected);
            }
            let distinct: BTreeSet<u64> = positions.values().copied().collect();
            prop_assert_eq!(distinct.len(), positions.len());
        }
    }
}
