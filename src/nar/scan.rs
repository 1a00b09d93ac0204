// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding which of some objects an archive refers to: whose hash part is anywhere in its bytes.
//!
//! Invariant: it does not matter in which pieces the bytes come.

use super::search::{Part, head, parts, runs};
use crate::store::{HASH_PART_BYTES, ObjectName};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// What of a piece must be kept for the next one.
const KEPT_BYTES: usize = HASH_PART_BYTES - 1;

/// How many kinds of beginnings are told apart before a part is looked up, as a power of two.
const KINDS_LOG2: u32 = 16;

/// Looks for hash parts in what is written to it.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The objects that were not found yet, by hash part.
    wanted: HashMap<Part, Vec<ObjectName>>,
    /// Whether a wanted part may begin so.
    beginnings: Box<[bool]>,
    found: BTreeSet<ObjectName>,
    /// The end of what came before.
    tail: Vec<u8>,
}

impl Scanner {
    /// Looks for these objects.
    pub fn new(candidates: impl IntoIterator<Item = ObjectName>) -> Scanner {
        let mut wanted: HashMap<Part, Vec<ObjectName>> = HashMap::new();
        let mut beginnings = vec![false; 1 << KINDS_LOG2].into_boxed_slice();
        for name in candidates {
            if let Some(part) = name.hash_part().as_bytes().first_chunk().copied() {
                beginnings[beginning(&part)] = true;
                wanted.entry(part).or_default().push(name);
            }
        }
        Scanner {
            wanted,
            beginnings,
            found: BTreeSet::new(),
            tail: Vec::with_capacity(2 * KEPT_BYTES),
        }
    }

    /// Returns which of the objects were found.
    pub fn finish(self) -> BTreeSet<ObjectName> {
        self.found
    }

    fn search(&mut self, bytes: &[u8]) {
        runs(bytes, |_, run| {
            for part in parts(run) {
                if self.beginnings[beginning(part)]
                    && let Some(names) = self.wanted.remove(part)
                {
                    self.found.extend(names);
                }
            }
        });
    }
}

/// Tells of which kind the beginning of a part is.
fn beginning(part: &Part) -> usize {
    // An odd number without a pattern: its product has all digits in its highest bits.
    let mixed = head(part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // No more bits than a table has places, so it fits.
    (mixed >> (u64::BITS - KINDS_LOG2)) as usize
}

impl Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.wanted.is_empty() {
            return Ok(bytes.len());
        }
        let mut joint = std::mem::take(&mut self.tail);
        joint.extend_from_slice(&bytes[..bytes.len().min(KEPT_BYTES)]);
        self.search(&joint);
        if bytes.len() >= KEPT_BYTES {
            self.search(bytes);
            joint.clear();
            joint.extend_from_slice(&bytes[bytes.len() - KEPT_BYTES..]);
        } else {
            joint.drain(..joint.len().saturating_sub(KEPT_BYTES));
        }
        self.tail = joint;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
