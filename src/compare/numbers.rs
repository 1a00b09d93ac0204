// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names are one object: by inode numbers, told on both sides alike.
//!
//! Invariant: an object with one name takes a bit, one with several two numbers; no path is kept.
//! What does not fit is a suspect, for which the trees are walked again.

use super::side::Both;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

/// Device and inode number.
pub(super) type Id = (u64, u64);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    single: Both<Bits>,
    fuse_to_kernel: HashMap<Id, Id>,
    kernel_to_fuse: HashMap<Id, Id>,
    suspects: Suspects,
}

/// Numbers that stand for one object on one side and for several on the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspects(pub(super) Both<HashSet<Id>>);

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.0.fuse.is_empty() && self.0.kernel.is_empty()
    }
}

impl Numbers {
    /// Takes note of one name. A directory has no number of the kernel's: those of merged ones do
    /// not last there.
    pub(super) fn met(&self, fuse: Id, kernel: Option<Id>, has_other_names: bool) {
        let seen = &mut *self.0.lock();
        match kernel {
            Some(kernel) if has_other_names => seen.linked(fuse, kernel),
            _ => seen.alone(fuse, kernel),
        }
    }

    pub(super) fn suspects(&self) -> Suspects {
        self.0.lock().suspects.clone()
    }
}

impl Seen {
    fn linked(&mut self, fuse: Id, kernel: Id) {
        let other_kernel = *self.fuse_to_kernel.entry(fuse).or_insert(kernel);
        let other_fuse = *self.kernel_to_fuse.entry(kernel).or_insert(fuse);
        if other_kernel != kernel || self.single.fuse.has(fuse) {
            self.suspects.0.fuse.insert(fuse);
        }
        if other_fuse != fuse || self.single.kernel.has(kernel) {
            self.suspects.0.kernel.insert(kernel);
        }
    }

    fn alone(&mut self, fuse: Id, kernel: Option<Id>) {
        if !self.single.fuse.add(fuse) || self.fuse_to_kernel.contains_key(&fuse) {
            self.suspects.0.fuse.insert(fuse);
        }
        let Some(kernel) = kernel else { return };
        if !self.single.kernel.add(kernel) || self.kernel_to_fuse.contains_key(&kernel) {
            self.suspects.0.kernel.insert(kernel);
        }
    }
}

/// A set of numbers, of which most have neighbours.
#[derive(Debug, Default)]
struct Bits(HashMap<Id, [u64; WORDS]>);

/// Numbers that share one entry: 512.
const WORDS: usize = 8;

impl Bits {
    fn place((device, number): Id) -> (Id, usize, u64) {
        let word = number / 64;
        let chunk = word / WORDS as u64;
        // The remainder is below WORDS.
        let index = (word % WORDS as u64) as usize;
        ((device, chunk), index, 1 << (number % 64))
    }

    fn has(&self, id: Id) -> bool {
        let (chunk, word, bit) = Self::place(id);
        self.0
            .get(&chunk)
            .is_some_and(|words| words[word] & bit != 0)
    }

    /// Adds one; false if it is there already.
    fn add(&mut self, id: Id) -> bool {
        let (chunk, word, bit) = Self::place(id);
        let words = self.0.entry(chunk).or_default();
        let new = words[word] & bit == 0;
        words[word] |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(met: &[(u64, u64, bool)]) -> (usize, usize) {
        let numbers = Numbers::default();
        for &(fuse, kernel, linked) in met {
            numbers.met((1, fuse), Some((2, kernel)), linked);
        }
        let suspects = numbers.suspects();
        (suspects.0.fuse.len(), suspects.0.kernel.len())
    }

    #[test]
    fn equal_relations_are_no_suspects() {
        assert_eq!(
            suspects(&[(1, 11, true), (1, 11, true), (2, 12, false)]),
            (0, 0)
        );
        assert_eq!(
            suspects(&[(511, 1, false), (512, 2, false), (u64::MAX, 3, false)]),
            (0, 0)
        );
    }

    #[test]
    fn one_object_here_and_two_there_are_suspects_in_any_order() {
        assert_eq!(suspects(&[(1, 11, true), (1, 12, true)]), (1, 0));
        assert_eq!(suspects(&[(1, 11, true), (2, 11, true)]), (0, 1));
        assert_eq!(suspects(&[(1, 11, false), (1, 12, false)]), (1, 0));
        assert_eq!(suspects(&[(1, 11, false), (1, 12, true)]), (1, 0));
        assert_eq!(suspects(&[(1, 12, true), (1, 11, false)]), (1, 0));
        assert_eq!(suspects(&[(1, 11, false), (2, 11, false)]), (0, 1));
    }

    #[test]
    fn devices_are_told_apart() {
        let numbers = Numbers::default();
        numbers.met((1, 5), Some((2, 7)), false);
        numbers.met((1, 6), Some((3, 7)), false);
        assert!(numbers.suspects().is_empty());
    }
}
