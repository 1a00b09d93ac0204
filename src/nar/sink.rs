// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is told what an archive holds, piece by piece.
//!
//! Invariant: calls come in the order of the archive. A node is one of [`Sink::file`] (with its data
//! and end), [`Sink::symlink`] and [`Sink::directory`] (with its entries and end); every entry is a
//! name followed by one node.

use crate::error::Result;

/// What is known of a file before its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHead {
    /// Whether its owner may execute it.
    pub executable: bool,
    /// How many bytes of content follow.
    pub size: u64,
}

/// Takes the nodes of one archive.
pub trait Sink {
    /// Begins a directory.
    fn directory(&mut self) -> Result<()>;
    /// Names the next node, in the directory that was begun last; names come in bytewise order.
    fn entry(&mut self, name: &[u8]) -> Result<()>;
    /// Ends the directory that was begun last.
    fn end_directory(&mut self) -> Result<()>;
    /// Begins a file.
    fn file(&mut self, head: FileHead) -> Result<()>;
    /// Continues the content of the file.
    fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// Ends the file, whose content is complete.
    fn end_file(&mut self) -> Result<()>;
    /// Takes a symbolic link.
    fn symlink(&mut self, target: &[u8]) -> Result<()>;
}

/// Takes everything and keeps nothing: the archive is checked alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn directory(&mut self) -> Result<()> {
        Ok(())
    }

    fn entry(&mut self, _name: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end_directory(&mut self) -> Result<()> {
        Ok(())
    }

    fn file(&mut self, _head: FileHead) -> Result<()> {
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        Ok(())
    }

    fn symlink(&mut self, _target: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Two that are told everything, the first one first.
#[derive(Debug)]
pub struct Both<'a, A, B>(pub &'a mut A, pub &'a mut B);

impl<A: Sink, B: Sink> Sink for Both<'_, A, B> {
    fn directory(&mut self) -> Result<()> {
        self.0.directory()?;
        self.1.directory()
    }

    fn entry(&mut self, name: &[u8]) -> Result<()> {
        self.0.entry(name)?;
        self.1.entry(name)
    }

    fn end_directory(&mut self) -> Result<()> {
        self.0.end_directory()?;
        self.1.end_directory()
    }

    fn file(&mut self, head: FileHead) -> Result<()> {
        self.0.file(head)?;
        self.1.file(head)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.data(bytes)?;
        self.1.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.0.end_file()?;
        self.1.end_file()
    }

    fn symlink(&mut self, target: &[u8]) -> Result<()> {
        self.0.symlink(target)?;
        self.1.symlink(target)
    }
}
