// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading an archive as it comes, and refusing what Nix would not have written.
//!
//! Invariant: an archive that is accepted has one spelling: written again it is the same bytes.

use super::sink::{FileHead, Sink};
use super::wire::Input;
use crate::error::Result;
use std::io::Read;

/// How many nodes may be inside one another, the outermost included; Nix has the same limit.
pub const MAX_DEPTH: usize = 64;

/// Longest name of a directory entry, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Longest target of a symbolic link, in bytes.
pub const MAX_TARGET_BYTES: usize = 4095;

/// The first word of every archive.
pub(super) const MAGIC: &str = "nix-archive-1";

/// How much of a file is passed on at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads one archive, tells `sink` what it holds, and returns its size in bytes. What follows it in
/// the input is neither read nor judged.
pub fn read<R: Read>(input: &mut Input<R>, sink: &mut impl Sink) -> Result<u64> {
    let start = input.position();
    input.expect(MAGIC)?;
    let buffer = Vec::new();
    Nodes {
        input,
        sink,
        buffer,
    }
    .node(1)?;
    Ok(input.position() - start)
}

struct Nodes<'a, R, S> {
    input: &'a mut Input<R>,
    sink: &'a mut S,
    buffer: Vec<u8>,
}

impl<R: Read, S: Sink> Nodes<'_, R, S> {
    /// Reads a node that is the `depth`th of those inside one another.
    fn node(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let why = format!("more than {MAX_DEPTH} nodes inside one another");
            return Err(self.input.bad(why));
        }
        self.input.expect("(")?;
        self.input.expect("type")?;
        let kind = self.input.word()?;
        match kind.as_bytes() {
            b"regular" => self.file(),
            b"symlink" => self.symlink(),
            b"directory" => self.directory(depth),
            _ => Err(self.input.bad(format!("a node of the unknown type {kind}"))),
        }
    }

    fn file(&mut self) -> Result<()> {
        let mut word = self.input.word()?;
        let executable = word.as_bytes() == b"executable";
        if executable {
            self.input.expect("")?;
            word = self.input.word()?;
        }
        if word.as_bytes() != b"contents" {
            let why = format!("{word} where the contents of a file should be");
            return Err(self.input.bad(why));
        }
        let size = self.input.number()?;
        self.sink.file(FileHead { executable, size })?;
        self.contents(size)?;
        self.input.padding(size)?;
        self.sink.end_file()?;
        self.input.expect(")")
    }

    fn contents(&mut self, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            if self.buffer.len() < want {
                self.buffer.resize(want, 0);
            }
            let count = self.input.part(&mut self.buffer[..want])?;
            self.sink.data(&self.buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn symlink(&mut self) -> Result<()> {
        self.input.expect("target")?;
        let target = self
            .input
            .string("the target of a link", MAX_TARGET_BYTES)?;
        if target.is_empty() || target.contains(&0) {
            let why = "a link whose target is empty or has a zero byte";
            return Err(self.input.bad(why));
        }
        self.sink.symlink(&target)?;
        self.input.expect(")")
    }

    fn directory(&mut self, depth: usize) -> Result<()> {
        self.sink.directory()?;
        let mut last = Vec::new();
        loop {
            let word = self.input.word()?;
            match word.as_bytes() {
                b")" => return self.sink.end_directory(),
                b"entry" => last = self.entry(&last, depth)?,
                _ => {
                    let why = format!("{word} where an entry of a directory should be");
                    return Err(self.input.bad(why));
                }
            }
        }
    }

    /// Reads one entry, which comes after `last`, and returns its name.
    fn entry(&mut self, last: &[u8], depth: usize) -> Result<Vec<u8>> {
        self.input.expect("(")?;
        self.input.expect("name")?;
        let name = self.input.string("a name", MAX_NAME_BYTES)?;
        if !is_name(&name) {
            let why = format!("'{}' is not a name for a file", name.escape_ascii());
            return Err(self.input.bad(why));
        }
        if *name <= *last {
            let (name, last) = (name.escape_ascii(), last.escape_ascii());
            let why = format!("'{name}' does not come after '{last}'");
            return Err(self.input.bad(why));
        }
        self.input.expect("node")?;
        self.sink.entry(&name)?;
        self.node(depth + 1)?;
        self.input.expect(")")?;
        Ok(name)
    }
}

/// Whether `name` names something in a directory, and cannot lead out of it.
pub(super) fn is_name(name: &[u8]) -> bool {
    let apart = |byte: &u8| *byte == b'/' || *byte == 0;
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(apart)
}
