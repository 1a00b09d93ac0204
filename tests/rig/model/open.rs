// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open files.
//!
//! Invariant: a descriptor stays with its object, whatever becomes of the name; on the kernel one
//! of a lower file goes over to the copy when its own name is copied up.

use super::layer::{Body, Ino};
use super::{Model, Rules, Seen};
use crate::op::{Access, Place, Side, pattern};
use crate::outcome::{Outcome, data};
use rustix::io::Errno;
use std::rc::Rc;

/// An open descriptor.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    side: Side,
    ino: Ino,
    place: Place,
    access: Access,
}

fn bytes_from(bytes: &[u8], offset: u64, length: u64) -> &[u8] {
    let end = (offset + length).min(bytes.len() as u64);
    let start = offset.min(end);
    &bytes[start as usize..end as usize]
}

impl Model {
    /// Returns the paths by which what is open was opened.
    pub(crate) fn open_places(&self) -> Vec<Place> {
        let open = self.slots.iter().flatten();
        open.map(|handle| handle.place.clone()).collect()
    }

    /// Tells whether an object of the lower is open.
    pub(super) fn is_open_below(&self, ino: Ino) -> bool {
        let mut open = self.slots.iter().flatten();
        open.any(|handle| handle.side == Side::Lower && handle.ino == ino)
    }

    pub(super) fn close_all(&mut self) {
        self.slots = Default::default();
    }

    /// What was open of the lower at `place` is the copy from now on.
    pub(super) fn repoint(&mut self, place: &Place, copy: Ino) {
        for handle in self.slots.iter_mut().flatten() {
            if handle.side == Side::Lower && handle.place == *place {
                (handle.side, handle.ino) = (Side::Upper, copy);
            }
        }
    }

    pub(super) fn close(&mut self, slot: usize) -> Outcome {
        self.slots[slot]
            .take()
            .map_or(Outcome::Nothing, |_| Outcome::Done)
    }

    pub(super) fn sync(&self, slot: usize) -> Outcome {
        self.slots[slot]
            .as_ref()
            .map_or(Outcome::Nothing, |_| Outcome::Done)
    }

    pub(super) fn open(&mut self, slot: usize, at: &Place, access: Access) -> Outcome {
        self.slots[slot] = None;
        match self.open_now(at, access) {
            Ok(Some(handle)) => {
                self.slots[slot] = Some(handle);
                Outcome::Done
            }
            Ok(None) => Outcome::Nothing,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Opens; `None` for what would block or has no driver.
    fn open_now(&mut self, at: &Place, access: Access) -> Result<Option<Handle>, Errno> {
        if let (Err(Errno::NOENT), Access::Create) = (self.find(at), access) {
            self.make(at, Body::file(Vec::new()))?;
        }
        let seen = self.find(at)?;
        match self.body(seen) {
            Body::Fifo | Body::Device => return Ok(None),
            Body::Symlink => return Err(Errno::LOOP),
            Body::Dir { .. } if access.writes() => return Err(Errno::ISDIR),
            Body::Dir { .. } | Body::File(_) => {}
        }
        self.handle(seen, at, access).map(Some)
    }

    fn handle(&mut self, seen: Seen, at: &Place, access: Access) -> Result<Handle, Errno> {
        let place = at.clone();
        if let (None, Some(ino)) = (seen.upper, seen.lower) {
            let handle = Handle {
                side: Side::Lower,
                ino,
                place: at.clone(),
                access,
            };
            match (self.rules, access) {
                (_, Access::Read) => return Ok(handle),
                (Rules::Here, Access::Truncate) => return Err(Errno::ROFS),
                (Rules::Here, _) => return Ok(handle),
                (Rules::Kernel, _) => {}
            }
        }
        let ino = match access {
            Access::Read => seen.upper.ok_or(Errno::NOENT)?,
            _ => self.upper_of(at)?,
        };
        if access == Access::Truncate {
            self.upper.get_mut(ino).body = Body::file(Vec::new());
            self.upper.get_mut(ino).mtime = None;
        }
        Ok(Handle {
            side: Side::Upper,
            ino,
            place,
            access,
        })
    }

    pub(super) fn read(&self, slot: usize, offset: u64, length: u64) -> Outcome {
        let Some(handle) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        if !handle.access.reads() {
            return Outcome::Failed(Errno::BADF);
        }
        let layer = if handle.side == Side::Upper {
            &self.upper
        } else {
            &self.lower
        };
        match &layer.get(handle.ino).body {
            Body::File(bytes) => Outcome::Data(data(bytes_from(bytes, offset, length))),
            _ => Outcome::Failed(Errno::ISDIR),
        }
    }

    pub(super) fn write(&mut self, slot: usize, offset: u64, length: u64, salt: u64) -> Outcome {
        let Some(handle) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        if !handle.access.writes() {
            return Outcome::Failed(Errno::BADF);
        }
        if length == 0 {
            return Outcome::Done;
        }
        if handle.side == Side::Lower {
            return Outcome::Failed(Errno::ROFS);
        }
        let append = handle.access == Access::Append;
        let object = self.upper.get_mut(handle.ino);
        object.mtime = None;
        if let Body::File(bytes) = &mut object.body {
            let bytes = Rc::make_mut(bytes);
            let start = if append { bytes.len() } else { offset as usize };
            let end = start + length as usize;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(&pattern(length, salt));
        }
        Outcome::Done
    }

    /// Opens for writing and sets the size.
    pub(super) fn truncate(&mut self, at: &Place, size: u64) -> Outcome {
        let handle = match self.open_now(at, Access::Write) {
            Ok(Some(handle)) => handle,
            Ok(None) => return Outcome::Nothing,
            Err(error) => return Outcome::Failed(error),
        };
        if handle.side == Side::Lower {
            return Outcome::Failed(Errno::ROFS);
        }
        let object = self.upper.get_mut(handle.ino);
        object.mtime = None;
        if let Body::File(bytes) = &mut object.body {
            Rc::make_mut(bytes).resize(size as usize, 0);
        }
        Outcome::Done
    }
}
