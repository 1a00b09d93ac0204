// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inode numbers that are unique over both layers.
//!
//! Invariant: one backing object has one [`Ino`] for the life of the driver. Objects on the
//! upper's filesystem keep their true number; others carry their device in the high bits, as
//! kernel OverlayFS does with `xino`.

use hashbrown::DefaultHashBuilder;
use parking_lot::RwLock;
use std::hash::BuildHasher;

/// Bits of an inode number that are left to the backing filesystem.
const INO_BITS: u32 = 56;
/// Set where device and number do not fit side by side, so that a hash stands for both.
const HASHED: u64 = 1 << 62;
/// Device tags above this one would reach [`HASHED`].
const MAX_TAG: u64 = 63;

/// An inode number as the merged view shows it (`st_ino`, `d_ino`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// One device of a backing object, `makedev` form.
type Device = (u32, u32);

/// The devices seen below both layers, in the order of their tags; the upper's comes first.
#[derive(Debug)]
pub struct Devices {
    first: Device,
    others: RwLock<Vec<Device>>,
    hasher: DefaultHashBuilder,
}

impl Devices {
    /// Starts with the device of the upper directory, whose numbers stay as they are.
    pub fn new(upper: (u32, u32)) -> Self {
        Devices {
            first: upper,
            others: RwLock::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Returns the number under which inode `ino` of `device` appears in the merged view.
    pub fn ino(&self, device: (u32, u32), ino: u64) -> Ino {
        let tag = self.tag(device);
        if tag <= MAX_TAG && ino < (1 << INO_BITS) {
            return Ino(tag << INO_BITS | ino);
        }
        Ino(HASHED | (self.hasher.hash_one((device, ino)) & (HASHED - 1)))
    }

    fn tag(&self, device: Device) -> u64 {
        if device == self.first {
            return 0;
        }
        let known = self.others.read().iter().position(|&other| other == device);
        let position = known.unwrap_or_else(|| {
            let mut others = self.others.write();
            others
                .iter()
                .position(|&other| other == device)
                .unwrap_or_else(|| {
                    others.push(device);
                    others.len() - 1
                })
        });
        position as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppers_numbers_stay_and_other_devices_are_told_apart() {
        let devices = Devices::new((8, 1));
        assert_eq!(devices.ino((8, 1), 42), Ino(42));
        let other = devices.ino((8, 2), 42);
        assert_eq!(other, Ino(1 << INO_BITS | 42));
        assert_eq!(devices.ino((8, 2), 42), other);
        assert_eq!(devices.ino((8, 3), 42), Ino(2 << INO_BITS | 42));
    }

    #[test]
    fn numbers_that_do_not_fit_are_hashed_and_stay_positive() {
        let devices = Devices::new((8, 1));
        let big = devices.ino((8, 1), u64::MAX);
        assert_eq!(big, devices.ino((8, 1), u64::MAX));
        assert_ne!(big, devices.ino((8, 1), u64::MAX - 1));
        assert_eq!(big.0 >> 62, 1, "bit 63 belongs to private node numbers");
    }

    #[test]
    fn more_devices_than_tags_still_differ() {
        let devices = Devices::new((0, 0));
        let mut seen: Vec<Ino> = (1..200).map(|minor| devices.ino((0, minor), 7)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 199);
    }
}
