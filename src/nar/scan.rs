// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding which of some objects an archive refers to: whose hash part is anywhere in its bytes.
//!
//! Invariant: it does not matter in which pieces the bytes come.

use super::search::{Part, windows};
use crate::store::{HASH_PART_BYTES, ObjectName};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// What of a piece must be kept for the next one.
const KEPT_BYTES: usize = HASH_PART_BYTES - 1;

/// How many beginnings of hash parts are told apart before a part is looked up: three digits.
const BEGINNINGS: usize = 1 << 15;

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
        let mut beginnings = vec![false; BEGINNINGS].into_boxed_slice();
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
        windows(bytes, |_, part| {
            if self.beginnings[beginning(part)]
                && let Some(names) = self.wanted.remove(part)
            {
                self.found.extend(names);
            }
            1
        });
    }
}

/// Numbers the first three digits; the low five bits tell most digits apart.
fn beginning(part: &Part) -> usize {
    let bits = |byte: u8| usize::from(byte & 0x1f);
    bits(part[0]) << 10 | bits(part[1]) << 5 | bits(part[2])
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
