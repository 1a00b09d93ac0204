// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with open files.
//!
//! Invariant: nothing is opened that would block.

use super::Mounted;
use crate::op::{Access, Place};
use crate::outcome::{Outcome, data};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

impl Mounted<'_> {
    fn open_now(&self, at: &Place, access: Access) -> Result<Option<OwnedFd>, Errno> {
        let path = self.path(at);
        if let Ok(found) = rustix::fs::lstat(&path) {
            let kind = FileType::from_raw_mode(found.st_mode);
            if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
                return Ok(None);
            }
        }
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::Both => OFlags::RDWR,
            Access::Append => OFlags::WRONLY | OFlags::APPEND,
            Access::Truncate => OFlags::RDWR | OFlags::TRUNC,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
        };
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(path, flags | always, Mode::from_raw_mode(0o644)).map(Some)
    }

    pub(super) fn open(&mut self, slot: usize, at: &Place, access: Access) -> Outcome {
        self.slots[slot] = None;
        match self.open_now(at, access) {
            Ok(Some(file)) => {
                self.slots[slot] = Some(file);
                Outcome::Done
            }
            Ok(None) => Outcome::Nothing,
            Err(error) => Outcome::Failed(error),
        }
    }

    pub(super) fn truncate(&self, at: &Place, size: u64) -> Outcome {
        match self.open_now(at, Access::Write) {
            Ok(Some(file)) => rustix::fs::ftruncate(file, size).into(),
            Ok(None) => Outcome::Nothing,
            Err(error) => Outcome::Failed(error),
        }
    }

    pub(super) fn read(&self, slot: usize, offset: u64, length: u64) -> Outcome {
        let Some(file) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        let mut buffer = vec![0; length as usize];
        let mut filled = 0;
        loop {
            match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Outcome::Data(data(&buffer[..filled])),
                Ok(count) => filled += count,
                Err(error) => return Outcome::Failed(error),
            }
        }
    }

    pub(super) fn write(&self, slot: usize, offset: u64, bytes: &[u8]) -> Outcome {
        let Some(file) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        let mut written = 0;
        loop {
            match rustix::io::pwrite(file, &bytes[written..], offset + written as u64) {
                Ok(count) => written += count,
                Err(error) => return Outcome::Failed(error),
            }
            if written == bytes.len() {
                return Outcome::Done;
            }
        }
    }
}
