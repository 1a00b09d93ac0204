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

/// Shows `each` every run of digits in `text` that is at least as long as a hash part, whole, and
/// where it begins.
pub(super) fn runs(text: &[u8], mut each: impl FnMut(usize, &[u8])) {
    let is_digit = |byte: &u8| DIGITS[usize::from(*byte)];
    let mut begin = 0;
    // Everything from the beginning up to here is digits.
    let mut known = 0;
    while let Some(first) = text.get(begin..begin + HASH_PART_BYTES) {
        // From the end, as the last byte that is none rules out the most.
        let new = known - begin;
        if let Some(other) = first[new..].iter().rposition(|byte| !is_digit(byte)) {
            known = begin + HASH_PART_BYTES;
            begin += new + other + 1;
            continue;
        }
        let more = &text[begin + HASH_PART_BYTES..];
        let length = more.iter().position(|byte| !is_digit(byte));
        let end = begin + HASH_PART_BYTES + length.unwrap_or(more.len());
        each(begin, &text[begin..end]);
        // The byte there is none, if there is one.
        begin = end + 1;
        known = begin;
    }
}

/// Returns the piece of the length of a hash part at every place of `run`.
pub(super) fn parts(run: &[u8]) -> impl Iterator<Item = &Part> {
    run.windows(HASH_PART_BYTES).filter_map(<[u8]>::first_chunk)
}

/// Returns the first eight digits of a part, as a number.
pub(super) fn head(part: &Part) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *part;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
