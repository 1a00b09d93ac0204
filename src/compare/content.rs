// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of one file, by hash.

use super::side::{At, Got};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fmt;

/// Read at once.
const CHUNK: usize = 256 * 1024;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: u64,
    hash: [u8; 32],
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sha256 ", self.bytes)?;
        self.hash
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads a regular file to its end; `buffer` is for reuse.
pub(super) fn read(at: At<'_>, buffer: &mut Vec<u8>) -> Got<Content> {
    let file = at.open(OFlags::RDONLY)?;
    buffer.resize(CHUNK, 0);
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let count = match rustix::io::read(&file, &mut buffer[..]) {
            Err(rustix::io::Errno::INTR) => continue,
            got => got?,
        };
        if count == 0 {
            let hash = hash.finalize().into();
            return Ok(Content { bytes, hash });
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}
