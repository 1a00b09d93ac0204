// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listing of a merged directory, with positions that do not move.
//!
//! Invariant: a name keeps its position as long as either layer has it; new names come at the
//! end; a position is never given to another name. So a half-read stream repeats nothing and
//! misses nothing that was there all the time.

use hashbrown::{DefaultHashBuilder, HashTable};
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
    slots: Vec<Option<Slot<I>>>,
    index: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl<I> Default for Listing<I> {
    fn default() -> Self {
        Listing {
            slots: Vec::new(),
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
        let start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(self.slots.len());
        self.slots[start..]
            .iter()
            .zip(start..)
            .filter_map(|(slot, at)| {
                let slot = slot.as_ref()?;
                let info = slot.visible()?;
                Some(Visible {
                    name: &slot.name,
                    info,
                    next: at as u64 + 1,
                })
            })
    }

    fn replace(&mut self, layer: Layer, scan: impl IntoIterator<Item = (Box<[u8]>, Item<I>)>) {
        for slot in self.slots.iter_mut().flatten() {
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
        let same = |&at: &usize| slots[at].as_ref().is_some_and(|slot| slot.name == name);
        let known = self.index.find(hash, same).copied();
        let at = known.unwrap_or_else(|| {
            slots.push(Some(Slot {
                name,
                upper: None,
                lower: None,
            }));
            let at = slots.len() - 1;
            let rehash = |&at: &usize| slots[at].as_ref().map_or(0, |s| hasher.hash_one(&*s.name));
            self.index.insert_unique(hash, at, rehash);
            at
        });
        self.slots[at]
            .as_mut()
            .expect("the index names live slots only")
    }

    fn drop_gone(&mut self) {
        let (slots, index, hasher) = (&mut self.slots, &mut self.index, &self.hasher);
        for (at, place) in slots.iter_mut().enumerate() {
            let gone = |slot: &mut Slot<I>| slot.upper.is_none() && slot.lower.is_none();
            if let Some(slot) = place.take_if(gone)
                && let Ok(entry) = index.find_entry(hasher.hash_one(&*slot.name), |&i| i == at)
            {
                entry.remove();
            }
        }
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
    use std::collections::{BTreeMap, BTreeSet};

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
