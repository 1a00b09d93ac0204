// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inode numbers that are unique over both layers.
//!
//! Invariant: one backing object has one [`Ino`] for the life of the driver. Objects on the
//! upper's filesystem keep their true number; others carry their device in the high bits, as
//! kernel OverlayFS does with `xino`.

use hashbrown::HashMap;
use parking_lot::RwLock;

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
    /// The tags of all others.
    others: RwLock<HashMap<Device, u64>>,
}

impl Devices {
    /// Starts with the device of the upper directory, whose numbers stay as they are.
    pub fn new(upper: (u32, u32)) -> Self {
        Devices {
            first: upper,
            others: RwLock::default(),
        }
    }

    /// Returns the number under which inode `ino` of `device` appears in the merged view.
    pub fn ino(&self, device: (u32, u32), ino: u64) -> Ino {
        let tag = self.tag(device);
        if tag <= MAX_TAG && ino < (1 << INO_BITS) {
            return Ino(tag << INO_BITS | ino);
        }
        Ino(HASHED | (hash(device, ino) & (HASHED - 1)))
    }

    fn tag(&self, device: Device) -> u64 {
        if device == self.first {
            return 0;
        }
        if let Some(&tag) = self.others.read().get(&device) {
            return tag;
        }
        let mut others = self.others.write();
        let next = others.len() as u64 + 1;
        *others.entry(device).or_insert(next)
    }
}

/// Mixes device and number, the same way in every run: programs remember inode numbers longer
/// than a driver lives.
fn hash(device: Device, ino: u64) -> u64 {
    let device = u64::from(device.0) << 32 | u64::from(device.1);
    mix(mix(device) ^ ino)
}

/// The finalizer of SplitMix64: every bit of the input reaches every bit of the result, and no
/// two inputs have the same.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
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
    fn hashed_numbers_are_those_of_the_last_driver() {
        let first = Devices::new((8, 1)).ino((8, 1), u64::MAX);
        assert_eq!(Devices::new((8, 1)).ino((8, 1), u64::MAX), first);
        let other = Devices::new((8, 1)).ino((8, 2), u64::MAX);
        assert_ne!(other, first, "the device is part of it");
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
