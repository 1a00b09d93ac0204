// SPDX-License-Identifier: MIT OR Apache-2.0
//! The primitive encoding of archives and export streams: little-endian numbers of 8 bytes, and
//! strings with their length in front, padded with zeros to a multiple of 8 bytes.
//!
//! Invariant: [`Input`] takes exactly the bytes that were asked for, so what follows them is still
//! in the reader, and allocates nothing by a length that it has not compared with a limit.

use crate::error::{Error, Kind, Result};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

/// What strings are padded to.
const ALIGNMENT: usize = 8;

/// No word of either format is longer (`nix-archive-1`).
const WORD_BYTES: usize = 16;

/// A stream that is being read, with what it is called in messages and how far it was read.
///
/// It reads in small pieces: give it a buffered reader.
#[derive(Debug)]
pub struct Input<R> {
    reader: R,
    subject: String,
    position: u64,
}

/// One short string of a format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    bytes: [u8; WORD_BYTES],
    len: usize,
}

impl Word {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.as_bytes().escape_ascii())
    }
}

impl<R: Read> Input<R> {
    /// Takes a stream; `subject` is its name in messages ("NAR of /nix/store/...").
    pub fn new(reader: R, subject: impl Into<String>) -> Input<R> {
        Input::at(reader, subject, 0)
    }

    /// Takes a stream of which `position` bytes were read before.
    pub(super) fn at(reader: R, subject: impl Into<String>, position: u64) -> Input<R> {
        Input {
            reader,
            subject: subject.into(),
            position,
        }
    }

    /// Returns how many bytes were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns what the stream is called in messages.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the reader, which still has everything that was not asked for.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// Describes why what was read so far is not what it should be.
    pub fn bad(&self, why: impl fmt::Display) -> Error {
        let why = format!("{why} (up to byte {})", self.position);
        Error::new(Kind::Corrupt, format!("read {}", self.subject), why)
            .hint("it is damaged, or something else: get it again from where it came from")
    }

    /// Reads a number.
    pub fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.exactly(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a string of at most `limit` bytes; `what` names it in messages.
    pub fn string(&mut self, what: &str, limit: usize) -> Result<Vec<u8>> {
        let len = self.number()?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= limit);
        let Some(len) = fits else {
            return Err(self.bad(format!("{what} of {len} bytes; {limit} is the limit")));
        };
        let mut bytes = vec![0; len];
        self.exactly(&mut bytes)?;
        self.padding(len as u64)?;
        Ok(bytes)
    }

    /// Requires that the stream ends here.
    pub fn end(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.read_some(&mut byte)? {
            0 => Ok(()),
            _ => Err(self.bad("something follows where it should end")),
        }
    }

    /// Reads a string that can only be one of the format's words.
    pub(super) fn word(&mut self) -> Result<Word> {
        let len = self.number()?;
        let short = usize::try_from(len).ok().filter(|len| *len <= WORD_BYTES);
        let Some(len) = short else {
            return Err(self.bad(format!("a string of {len} bytes where a word should be")));
        };
        let mut bytes = [0; WORD_BYTES];
        let padded = len.next_multiple_of(ALIGNMENT);
        self.exactly(&mut bytes[..padded])?;
        if bytes[len..].iter().any(|byte| *byte != 0) {
            return Err(self.bad("padding that is not zero"));
        }
        Ok(Word { bytes, len })
    }

    /// Reads the word `expected`.
    pub(super) fn expect(&mut self, expected: &str) -> Result<()> {
        let word = self.word()?;
        if word.as_bytes() == expected.as_bytes() {
            return Ok(());
        }
        Err(self.bad(format!("{word} where '{expected}' should be")))
    }

    /// Reads the zeros after a string of `len` bytes.
    pub(super) fn padding(&mut self, len: u64) -> Result<()> {
        let mut zeros = [0; ALIGNMENT];
        self.exactly(&mut zeros[..padding_of(len)])?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.bad("padding that is not zero"));
        }
        Ok(())
    }

    /// Reads as much of `buffer` as comes at once, at least one byte.
    pub(super) fn part(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.read_some(buffer)? {
            0 => Err(self.failed(&ErrorKind::UnexpectedEof.into())),
            count => Ok(count),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
                Ok(count) => return Ok(count),
            }
        }
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<()> {
        if let Err(error) = self.reader.read_exact(buffer) {
            return Err(self.failed(&error));
        }
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        if error.kind() == ErrorKind::UnexpectedEof {
            return self.bad("it ends too early");
        }
        Error::environment(format!("read {}", self.subject), error)
    }
}

/// What is read so is counted, and not judged.
impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Writes a number.
pub(super) fn put_number(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

/// Writes a string.
pub(super) fn put_string(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put_number(out, bytes.len() as u64)?;
    out.write_all(bytes)?;
    put_padding(out, bytes.len() as u64)
}

/// Writes the zeros after a string of `len` bytes.
pub(super) fn put_padding(out: &mut impl Write, len: u64) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT][..padding_of(len)])
}

fn padding_of(len: u64) -> usize {
    // Less than the alignment, so it fits.
    (len.wrapping_neg() % ALIGNMENT as u64) as usize
}
