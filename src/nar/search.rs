// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking for hash parts in any bytes.
//!
//! Invariant: every run of [`HASH_PART_BYTES`] digits is looked at, and every byte is judged at most
//! once: what cannot be in such a run is stepped over.

use crate::store::{HASH_PART_BYTES, base32};

/// A piece of the length of a hash part.
pub(super) type Part = [u8; HASH_PART_BYTES];

/// Which bytes are digits.
static DIGITS: [bool; 256] = {
    let mut digits = [false; 256];
    let mut n = 0;
    while n < base32::DIGITS.len() {
        digits[base32::DIGITS[n] as usize] = true;
        n += 1;
    }
    digits
};

/// Shows `each` every run of digits in `text` that is as long as a hash part, and where it begins;
/// it answers by how much to go on.
pub(super) fn windows(text: &[u8], mut each: impl FnMut(usize, &Part) -> usize) {
    let mut at = 0;
    // Everything from the window's start up to here is digits.
    let mut known = 0;
    while let Some(window) = text
        .get(at..)
        .and_then(<[u8]>::first_chunk::<HASH_PART_BYTES>)
    {
        let end = at + HASH_PART_BYTES;
        let new = known.clamp(at, end) - at;
        // From the end, as the last byte that is none rules out the most.
        let other = window[new..]
            .iter()
            .rposition(|byte| !DIGITS[usize::from(*byte)]);
        at += match other {
            Some(other) => new + other + 1,
            None => each(at, window).max(1),
        };
        known = end;
    }
}
