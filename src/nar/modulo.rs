// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hash of an archive modulo references to itself, which fixes the name of an object that
//! contains that name.
//!
//! Every appearance of the object's hash part counts as zeros. Whether the places of the appearances
//! are hashed after the content depends on the version of Nix, so both hashes are computed; those of
//! an archive without appearances are the same. Invariant: it does not matter in which pieces the
//! bytes come.

use super::search::{Part, head, parts, runs};
use crate::store::{Algorithm, HASH_PART_BYTES, Hash, Hasher, ObjectName};
use std::io::{self, Write};

/// An archive may refer to its own object this often; more would fill the memory.
pub const MAX_SELF_REFERENCES: usize = 1 << 22;

/// The two hashes of one archive modulo its own hash part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modulo {
    /// Of the archive with zeros in place of the hash part: what Nix 2.26 to 2.34 computes.
    pub zeroed: Hash,
    /// Of that, followed by a bar and the offset of each place: as it was meant to be, and was in
    /// versions before.
    pub located: Hash,
    /// How many bytes the archive has.
    pub size: u64,
}

/// Hashes what is written to it, modulo one hash part.
#[derive(Debug, Clone)]
pub struct ModuloHasher {
    hasher: Hasher,
    part: Option<Part>,
    /// What was not hashed yet: it may be the beginning of the part.
    rest: Vec<u8>,
    /// How much was hashed.
    hashed: u64,
    positions: Vec<u64>,
}

impl ModuloHasher {
    /// Hashes modulo the hash part of `own`; without one it hashes what comes.
    pub fn new(algorithm: Algorithm, own: Option<&ObjectName>) -> ModuloHasher {
        let part = own.and_then(|name| name.hash_part().as_bytes().first_chunk().copied());
        ModuloHasher {
            hasher: algorithm.hasher(),
            part,
            rest: Vec::new(),
            hashed: 0,
            positions: Vec::new(),
        }
    }

    /// Whether the hash part has appeared.
    pub fn refers_to_itself(&self) -> bool {
        !self.positions.is_empty()
    }

    /// Returns the hashes of everything that was written.
    pub fn finish(mut self) -> Modulo {
        self.hasher.update(&self.rest);
        let mut located = self.hasher.clone();
        for position in &self.positions {
            located.update(format!("|{position}").as_bytes());
        }
        Modulo {
            zeroed: self.hasher.finish(),
            located: located.finish(),
            size: self.hashed + self.rest.len() as u64,
        }
    }

    /// Replaces the part in what is waiting.
    fn replace(&mut self, part: Part) {
        let first = self.positions.len();
        let before = self.hashed;
        let positions = &mut self.positions;
        let wanted = head(&part);
        runs(&self.rest, |at, run| {
            // Appearances do not overlap: the first one counts.
            let mut next = 0;
            for (place, found) in parts(run).enumerate() {
                if head(found) == wanted && *found == part && place >= next {
                    positions.push(before + (at + place) as u64);
                    next = place + HASH_PART_BYTES;
                }
            }
        });
        for position in &self.positions[first..] {
            // Within what is waiting, so it fits.
            let at = (position - before) as usize;
            self.rest[at..at + HASH_PART_BYTES].fill(0);
        }
    }
}

impl Write for ModuloHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(part) = self.part else {
            self.hasher.update(bytes);
            self.hashed += bytes.len() as u64;
            return Ok(bytes.len());
        };
        self.rest.extend_from_slice(bytes);
        self.replace(part);
        if self.positions.len() > MAX_SELF_REFERENCES {
            let why = format!("more than {MAX_SELF_REFERENCES} references to itself");
            return Err(io::Error::other(why));
        }
        let whole = self.rest.len().saturating_sub(HASH_PART_BYTES - 1);
        self.hasher.update(&self.rest[..whole]);
        self.hashed += whole as u64;
        self.rest.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
