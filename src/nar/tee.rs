// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an archive passes on its way: a hash with a count, several takers at once, a reader that
//! lets others see what it reads.
//!
//! Invariant: whoever looks on is given every byte once, in order, whatever pieces were read.

use crate::store::Sha256;
use sha2::Digest as _;
use std::io::{self, BufWriter, Read, Write};

/// Small pieces are gathered to this size before they are looked at, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Hashes and counts what is written to it.
#[derive(Debug, Clone, Default)]
pub struct NarHasher {
    state: sha2::Sha256,
    size: u64,
}

impl NarHasher {
    /// Begins with nothing.
    pub fn new() -> NarHasher {
        NarHasher::default()
    }

    /// Returns the digest and how many bytes there were.
    pub fn finish(self) -> (Sha256, u64) {
        (Sha256(self.state.finalize().into()), self.size)
    }
}

impl Write for NarHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes everything to both.
#[derive(Debug, Clone, Default)]
pub struct Fan<A, B>(pub A, pub B);

impl<A: Write, B: Write> Write for Fan<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

/// A reader, what is read from it being written to another place as well.
#[derive(Debug)]
pub struct Tee<R, W: Write> {
    reader: R,
    seen_by: BufWriter<W>,
}

impl<R: Read, W: Write> Tee<R, W> {
    /// Has `seen_by` see what is read.
    pub fn new(reader: R, seen_by: W) -> Tee<R, W> {
        Tee {
            reader,
            seen_by: BufWriter::with_capacity(BUFFER_BYTES, seen_by),
        }
    }

    /// Returns the reader, and the other one when it has seen everything.
    pub fn finish(self) -> io::Result<(R, W)> {
        let seen_by = self.seen_by.into_inner();
        Ok((
            self.reader,
            seen_by.map_err(std::io::IntoInnerError::into_error)?,
        ))
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.seen_by.write_all(&buffer[..count])?;
        Ok(count)
    }
}
