// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long work on one tree, ended early by an interrupt.
//!
//! Invariant: it is asked about at every name and every piece of a file, so that neither many small
//! files nor a large one keep anybody waiting.

use crate::error::Result;
use crate::nar::{FileHead, Sink};
use crate::roots::Interrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Passes on what it is told, and fails once the interrupt is there.
#[derive(Debug)]
pub(in crate::operations) struct Watched<'a, S> {
    sink: &'a mut S,
    interrupt: &'a Interrupt,
    what: &'a str,
}

impl<'a, S: Sink> Watched<'a, S> {
    /// Watches the work of `sink`, which `what` names in the error ("add /nix/store/...").
    pub(in crate::operations) fn new(
        sink: &'a mut S,
        interrupt: &'a Interrupt,
        what: &'a str,
    ) -> Watched<'a, S> {
        Watched {
            sink,
            interrupt,
            what,
        }
    }
}

impl<S: Sink> Sink for Watched<'_, S> {
    fn directory(&mut self) -> Result<()> {
        self.sink.directory()
    }

    fn entry(&mut self, name: &[u8]) -> Result<()> {
        self.interrupt.check(self.what)?;
        self.sink.entry(name)
    }

    fn end_directory(&mut self) -> Result<()> {
        self.sink.end_directory()
    }

    fn file(&mut self, head: FileHead) -> Result<()> {
        self.sink.file(head)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.interrupt.check(self.what)?;
        self.sink.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.sink.end_file()
    }

    fn symlink(&mut self, target: &[u8]) -> Result<()> {
        self.sink.symlink(target)
    }
}

/// How long a reader waits before it looks for an interrupt again, in milliseconds.
const LOOK_MILLISECONDS: i64 = 200;

/// A reader that may keep its caller waiting, until there is an interrupt.
#[derive(Debug)]
pub struct Interruptible<R> {
    reader: R,
    interrupt: Interrupt,
}

impl<R> Interruptible<R> {
    /// Reads from `reader` until `interrupt` says no.
    pub fn new(reader: R, interrupt: Interrupt) -> Interruptible<R> {
        Interruptible { reader, interrupt }
    }
}

impl<R: Read + AsFd> Read for Interruptible<R> {
    /// A handled signal starts a read again that waits, so it waits for input in another way.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_MILLISECONDS * 1_000_000,
        };
        loop {
            if self.interrupt.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            let mut input = [PollFd::new(&self.reader, PollFlags::IN)];
            match poll(&mut input, Some(&pause)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.reader.read(buffer),
                Err(why) => return Err(why.into()),
            }
        }
    }
}
