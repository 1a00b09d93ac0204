// SPDX-License-Identifier: MIT OR Apache-2.0
//! The annotated terms that derivations are written in: strings, lists and tuples.
//!
//! Invariant: every string has one spelling, and nothing takes more memory than the text has bytes.

use std::fmt;

/// Where a text is not what it should be, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Position in bytes.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.why)
    }
}

impl std::error::Error for Malformed {}

/// The letters of escapes, and what they stand for.
const ESCAPES: [(u8, u8); 5] = [
    (b'"', b'"'),
    (b'\\', b'\\'),
    (b'n', b'\n'),
    (b'r', b'\r'),
    (b't', b'\t'),
];

/// A text and the place up to which it was read.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Terms<'a> {
    pub(super) fn new(text: &'a [u8]) -> Terms<'a> {
        Terms { text, at: 0 }
    }

    /// Says that what was just read is wrong.
    pub(super) fn wrong(&self, why: &'static str) -> Malformed {
        Malformed { at: self.at, why }
    }

    /// Passes over `word` if it comes next.
    pub(super) fn skip(&mut self, word: &[u8]) -> bool {
        let comes = self.text[self.at..].starts_with(word);
        if comes {
            self.at += word.len();
        }
        comes
    }

    /// Passes over `word`, which must come next.
    pub(super) fn expect(&mut self, word: &[u8], why: &'static str) -> Result<(), Malformed> {
        if self.skip(word) {
            return Ok(());
        }
        Err(self.wrong(why))
    }

    /// Checks that all was read.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.at == self.text.len() {
            return Ok(());
        }
        Err(self.wrong("something follows the end"))
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        self.expect(b"\"", "a string should begin here")?;
        let mut string = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(string),
                b'\\' => {
                    let letter = self.next()?;
                    let known = ESCAPES.iter().find(|(known, _)| *known == letter);
                    let (_, byte) = known.ok_or_else(|| self.wrong("there is no such escape"))?;
                    string.push(*byte);
                }
                b'\n' | b'\r' | b'\t' => return Err(self.wrong("this should be an escape")),
                byte => string.push(byte),
            }
        }
    }

    /// Reads a string that is text.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let string = self.string()?;
        String::from_utf8(string).map_err(|_| self.wrong("this should be UTF-8"))
    }

    /// Reads a list: `item` reads one and keeps it.
    pub(super) fn list(
        &mut self,
        mut item: impl FnMut(&mut Terms<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b"[", "a list should begin here")?;
        if self.skip(b"]") {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.skip(b"]") {
                return Ok(());
            }
            self.expect(b",", "a list should end or go on here")?;
        }
    }

    /// Passes over what begins a tuple.
    pub(super) fn open(&mut self) -> Result<(), Malformed> {
        self.expect(b"(", "a tuple should begin here")
    }

    /// Passes over what parts the items of a tuple.
    pub(super) fn part(&mut self) -> Result<(), Malformed> {
        self.expect(b",", "another item should follow here")
    }

    /// Passes over what ends a tuple.
    pub(super) fn close(&mut self) -> Result<(), Malformed> {
        self.expect(b")", "a tuple should end here")
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.text.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.wrong("the text ends in a string"))?;
        self.at += 1;
        Ok(byte)
    }
}

/// Writes a string.
pub(super) fn write_string(text: &mut Vec<u8>, string: &[u8]) {
    text.push(b'"');
    for byte in string {
        match ESCAPES.iter().find(|(_, stands_for)| stands_for == byte) {
            Some((letter, _)) => text.extend([b'\\', *letter]),
            None => text.push(*byte),
        }
    }
    text.push(b'"');
}

/// Writes a list: `item` writes one.
pub(super) fn write_list<T>(
    text: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut Vec<u8>, T),
) {
    text.push(b'[');
    for (at, one) in items.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        item(text, one);
    }
    text.push(b']');
}
