// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of one file on both sides, by hash.
//!
//! Invariant: both are read in step, so that a side that fails ends the reading of the other.

use super::side::{At, Both, Got};
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fmt;
use std::os::fd::OwnedFd;

/// Read at once.
const CHUNK: usize = 256 * 1024;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: u64,
    /// `None` where reading was not gone on with, as the other side had failed.
    hash: Option<[u8; 32]>,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(hash) = self.hash else {
            return f.write_str("readable");
        };
        write!(f, "{} bytes, sha256 ", self.bytes)?;
        hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One file that is being read.
struct Reading {
    file: OwnedFd,
    hash: Sha256,
    bytes: u64,
    ended: bool,
}

impl Reading {
    fn open(at: At<'_>) -> Got<Reading> {
        Ok(Reading {
            file: at.open(OFlags::RDONLY)?,
            hash: Sha256::new(),
            bytes: 0,
            ended: false,
        })
    }

    /// Takes the next part, as much of it as fills `buffer` if there is that much.
    fn step(&mut self, buffer: &mut [u8]) -> Got<()> {
        let mut filled = 0;
        while !self.ended && filled < buffer.len() {
            match rustix::io::read(&self.file, &mut buffer[filled..]) {
                Err(Errno::INTR) => {}
                Ok(0) => self.ended = true,
                got => filled += got?,
            }
        }
        self.hash.update(&buffer[..filled]);
        self.bytes += filled as u64;
        Ok(())
    }

    fn finish(self) -> Content {
        Content {
            bytes: self.bytes,
            hash: self.ended.then(|| self.hash.finalize().into()),
        }
    }
}

/// Reads a regular file to its end on both sides; `buffer` is for reuse.
pub(super) fn read(at: Both<At<'_>>, buffer: &mut Vec<u8>) -> Both<Got<Content>> {
    buffer.resize(CHUNK, 0);
    let mut reading = at.map(Reading::open);
    while let Both {
        fuse: Ok(fuse),
        kernel: Ok(kernel),
    } = &mut reading
    {
        if fuse.ended && kernel.ended {
            break;
        }
        let (fuse, kernel) = (fuse.step(buffer), kernel.step(buffer));
        if let Err(errno) = fuse {
            reading.fuse = Err(errno);
        }
        if let Err(errno) = kernel {
            reading.kernel = Err(errno);
        }
    }
    reading.map(|got| got.map(Reading::finish))
}
