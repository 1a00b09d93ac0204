// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing an archive, node by node.
//!
//! Invariant: a file that gets more or less content than was said for it is an error, so that a
//! finished archive is well-formed if names came in order.

use super::reader::MAGIC;
use super::sink::{FileHead, Sink};
use super::wire::{put_number, put_padding, put_string};
use crate::error::{Error, Kind, Result};
use std::io::{self, BufWriter, Write};

/// Small pieces are gathered to this size, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes one archive: what it is told as a [`Sink`].
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    subject: String,
    /// Directories that were begun and not ended.
    depth: usize,
    /// Size of the file that was begun, and how much of it is still to come.
    file: Option<(u64, u64)>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive; `subject` is its name in messages ("NAR of /nix/store/...").
    pub fn new(out: W, subject: impl Into<String>) -> Result<Writer<W>> {
        let mut writer = Writer {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            subject: subject.into(),
            depth: 0,
            file: None,
        };
        writer.put(|out| put_string(out, MAGIC.as_bytes()))?;
        Ok(writer)
    }

    /// Hands over everything that was written, and returns what it was written to.
    pub fn finish(mut self) -> Result<W> {
        if self.depth > 0 || self.file.is_some() {
            return Err(self.wrong("a directory or file has not ended"));
        }
        self.put(Write::flush)?;
        let subject = self.subject;
        let flushed = self.out.into_inner();
        flushed.map_err(|error| Error::environment(format!("write {subject}"), error.error()))
    }

    fn put(&mut self, put: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>) -> Result<()> {
        put(&mut self.out)
            .map_err(|error| Error::environment(format!("write {}", self.subject), error))
    }

    fn words(&mut self, words: &[&str]) -> Result<()> {
        self.put(|out| {
            words
                .iter()
                .try_for_each(|word| put_string(out, word.as_bytes()))
        })
    }

    /// Ends a node, and the entry that it is the node of.
    fn close(&mut self) -> Result<()> {
        let entry = self.depth > 0;
        self.words(if entry { &[")", ")"] } else { &[")"] })
    }

    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Kind::Environment, format!("write {}", self.subject), why)
    }
}

impl<W: Write> Sink for Writer<W> {
    fn directory(&mut self) -> Result<()> {
        self.depth += 1;
        self.words(&["(", "type", "directory"])
    }

    fn entry(&mut self, name: &[u8]) -> Result<()> {
        self.words(&["entry", "(", "name"])?;
        self.put(|out| put_string(out, name))?;
        self.words(&["node"])
    }

    fn end_directory(&mut self) -> Result<()> {
        let above = self.depth.checked_sub(1);
        self.depth = above.ok_or_else(|| self.wrong("no directory is to be ended"))?;
        self.close()
    }

    fn file(&mut self, head: FileHead) -> Result<()> {
        self.file = Some((head.size, head.size));
        self.words(&["(", "type", "regular"])?;
        if head.executable {
            self.words(&["executable", ""])?;
        }
        self.words(&["contents"])?;
        self.put(|out| put_number(out, head.size))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.file.and_then(|(size, left)| {
            let left = left.checked_sub(bytes.len() as u64)?;
            Some((size, left))
        });
        if left.is_none() {
            return Err(self.wrong("more content than the file's size"));
        }
        self.file = left;
        self.put(|out| out.write_all(bytes))
    }

    fn end_file(&mut self) -> Result<()> {
        let Some((size, 0)) = self.file.take() else {
            return Err(self.wrong("less content than the file's size"));
        };
        self.put(|out| put_padding(out, size))?;
        self.close()
    }

    fn symlink(&mut self, target: &[u8]) -> Result<()> {
        self.words(&["(", "type", "symlink", "target"])?;
        self.put(|out| put_string(out, target))?;
        self.close()
    }
}
