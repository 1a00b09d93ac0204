// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of the worker protocol: numbers, strings and lists, over any stream.
//!
//! Decides what is well-formed, and how much of it is read. Invariant: memory grows only as bytes
//! arrive, by at most [`PIECE`] ahead of them, whatever length the other side announces.

use std::fmt;
use std::io::{self, ErrorKind, Read};

/// Numbers take 8 bytes, and strings are filled up to a multiple of it.
const WORD: usize = 8;

/// How much is read at once.
pub const PIECE: usize = 64 << 10;

/// The longest store path, signature, content address, name, feature or version, in bytes.
pub const TEXT_MAX: u64 = 16 << 10;

/// The longest message of the daemon, in bytes.
pub const MESSAGE_MAX: u64 = 16 << 20;

/// The greatest number of store paths in one answer.
pub const PATHS_MAX: u64 = 1 << 24;

/// The greatest number of signatures, outputs, features, fields or traces.
pub const ITEMS_MAX: u64 = 1 << 16;

/// Why a question has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The other side had closed the connection before it began to answer.
    Closed,
    /// It closed the connection in the middle.
    CutOff,
    /// Nothing came, or could be sent, for as long as there is patience.
    Silent,
    /// Whoever waits was told to end.
    Interrupted,
    /// Its answer did not end for as long as there is patience with a question.
    Endless,
    /// The connection failed otherwise.
    Broken(io::Error),
    /// The daemon answered with an error, and listens for the next question.
    Refused(String),
    /// What came is not of this protocol, or beyond its limits.
    Nonsense(String),
    /// The daemon speaks an older protocol than the question needs.
    TooOld {
        /// The version that it speaks.
        speaks: Version,
        /// The version from which on the question can be asked.
        needs: Version,
    },
}

/// A version of the protocol, as it is sent: `major << 8 | minor`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// Returns version 1.`minor`.
    pub const fn one(minor: u8) -> Version {
        Version(1 << 8 | minor as u64)
    }

    /// Returns the number before the dot.
    pub fn major(self) -> u64 {
        self.0 >> 8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 8, self.0 & 0xff)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Failure::CutOff,
            // What a socket with a time limit says.
            ErrorKind::WouldBlock => Failure::Silent,
            ErrorKind::TimedOut => Failure::Endless,
            _ => match stop(&error) {
                Some(Stop::Interrupted) => Failure::Interrupted,
                Some(why @ Stop::TooMuch(_)) => Failure::nonsense(why),
                None => Failure::Broken(error),
            },
        }
    }
}

/// Why a read or a write ended that the stream itself would have gone on with. An interruption is not
/// [`ErrorKind::Interrupted`], after which everybody tries again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Interrupted,
    /// More than so many bytes.
    TooMuch(u64),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Interrupted => f.write_str("interrupted"),
            Stop::TooMuch(most) => write!(f, "it has more than {most} bytes"),
        }
    }
}

impl std::error::Error for Stop {}

/// Returns the error of a read or a write that ended so.
pub(super) fn stopped(why: Stop) -> io::Error {
    io::Error::other(why)
}

fn stop(error: &io::Error) -> Option<Stop> {
    error.get_ref()?.downcast_ref().copied()
}

impl Failure {
    /// Describes what is not of the protocol.
    pub fn nonsense(what: impl fmt::Display) -> Failure {
        Failure::Nonsense(what.to_string())
    }
}

/// Reads a number.
pub fn number(from: &mut impl Read) -> Result<u64, Failure> {
    let mut word = [0; WORD];
    from.read_exact(&mut word)?;
    Ok(u64::from_le_bytes(word))
}

/// Reads a boolean.
pub fn flag(from: &mut impl Read) -> Result<bool, Failure> {
    match number(from)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Failure::nonsense(format!("{other} is neither yes nor no"))),
    }
}

/// Reads how many items follow.
pub fn count(from: &mut impl Read, most: u64) -> Result<u64, Failure> {
    let count = number(from)?;
    if count > most {
        let what = format!("a list of {count} items, where {most} is the limit");
        return Err(Failure::nonsense(what));
    }
    Ok(count)
}

/// Reads a string of at most `most` bytes.
pub fn bytes(from: &mut impl Read, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    pieces(from, most, |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes)
}

/// Reads a string of at most `most` bytes and forgets it.
pub fn skip(from: &mut impl Read, most: u64) -> Result<(), Failure> {
    pieces(from, most, |_| {})
}

/// Reads a string that must be text.
pub fn text(from: &mut impl Read, most: u64) -> Result<String, Failure> {
    String::from_utf8(bytes(from, most)?).map_err(|error| {
        let bytes = error.into_bytes();
        let shown = bytes[..bytes.len().min(80)].escape_ascii();
        Failure::nonsense(format!("{shown} is no text"))
    })
}

fn pieces(from: &mut impl Read, most: u64, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let length = number(from)?;
    if length > most {
        let what = format!("a string of {length} bytes, where {most} is the limit");
        return Err(Failure::nonsense(what));
    }
    let mut piece = [0; 4096];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        from.read_exact(&mut piece[..size])?;
        take(&piece[..size]);
        left -= size as u64;
    }
    let mut padding = [0; WORD];
    let padding = &mut padding[..padding_of(length)];
    from.read_exact(padding)?;
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Failure::nonsense(
            "a string is filled up with other bytes than 0",
        )),
    }
}

/// How many bytes fill up a string of `length` bytes.
fn padding_of(length: u64) -> usize {
    // Less than a word, so it fits.
    usize::try_from(length.wrapping_neg() % WORD as u64).unwrap_or(0)
}

/// A message to the daemon, put together.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Begins with a number, such as that of an operation.
    pub fn of(number: u64) -> Message {
        Message::default().number(number)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Message {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn string(self, bytes: &[u8]) -> Message {
        let mut message = self.number(bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        let filled = message.0.len() + padding_of(bytes.len() as u64);
        message.0.resize(filled, 0);
        message
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
