// SPDX-License-Identifier: MIT OR Apache-2.0
//! What changes through the view do to the two trees.
//!
//! Invariant: none of them changes the lower.

use super::layer::{Body, Ino, Object, Origin, TOP};
use super::{Model, Rules, Seen, Slot};
use crate::op::Place;
use rustix::io::Errno;

impl Model {
    /// Returns the upper side of what is at `place`, which is there; the kernel copies it up.
    pub(super) fn upper_of(&mut self, place: &Place) -> Result<Ino, Errno> {
        let seen = self.find(place)?;
        match (seen.upper, self.rules) {
            (Some(ino), _) => Ok(ino),
            (None, Rules::Here) => Err(Errno::ROFS),
            (None, Rules::Kernel) => self.copy_up(place, seen),
        }
    }

    fn copy_up(&mut self, place: &Place, seen: Seen) -> Result<Ino, Errno> {
        let (directory, name) = place.split().ok_or(Errno::BUSY)?;
        let parent = self.upper_of(&directory)?;
        let lower = seen.lower.ok_or(Errno::NOENT)?;
        let mut copy = self.lower.get(lower).clone();
        copy.origin = Origin::Copied(lower);
        if copy.body.is_dir() {
            copy.body = Body::dir(false);
        }
        let ino = self.upper.add(copy);
        let time = self.upper.get(parent).mtime;
        self.upper.set(parent, name, Some(ino));
        self.upper.get_mut(parent).mtime = time;
        self.repoint(place, ino);
        Ok(ino)
    }

    /// Puts an object of the upper where nothing is seen. A directory hides what the lower has there.
    pub(super) fn place(&mut self, slot: Slot, at: &Place, ino: Ino) -> Result<(), Errno> {
        let (directory, name) = at.split().ok_or(Errno::EXIST)?;
        let parent = self.upper_of(&directory)?;
        let hides = match self.rules {
            // In the place of an empty merged directory it merges with what is empty.
            Rules::Here => {
                let below = slot.lower.map(|ino| self.lower.get(ino).body.is_dir());
                below == Some(true) && self.shown(slot).is_none()
            }
            Rules::Kernel => slot.lower.is_some() || slot.parent.is_merged(),
        };
        if hides {
            self.upper.set_opaque(ino);
        }
        if hides && self.rules == Rules::Here && self.upper.get(ino).body.is_dir() {
            // It was marked under a reserved name in the top.
            self.upper.get_mut(TOP).mtime = None;
        }
        self.upper.set(parent, name, Some(ino));
        Ok(())
    }

    pub(super) fn make(&mut self, at: &Place, body: Body) -> Result<(), Errno> {
        let slot = self.slot_at(at).map_err(|error| match error {
            Errno::BUSY => Errno::EXIST,
            other => other,
        })?;
        if self.shown(slot).is_some() {
            return Err(Errno::EXIST);
        }
        let (directory, _) = at.split().ok_or(Errno::EXIST)?;
        let (_, name) = at.split().ok_or(Errno::EXIST)?;
        let hides = self.rules == Rules::Kernel || self.is_links(slot.parent, name);
        if body == Body::Device && hides {
            return Err(Errno::PERM);
        }
        self.upper_of(&directory)?;
        if body == Body::Device && slot.lower.is_some() {
            return Err(Errno::PERM);
        }
        let mode = if body.is_dir() { 0o755 } else { 0o644 };
        let ino = self.upper.add(Object {
            body,
            mode,
            mtime: None,
            origin: Origin::Made,
        });
        self.place(slot, at, ino)
    }

    /// Takes the upper's object away; the kernel hides what the lower has under the name.
    pub(super) fn take(&mut self, slot: Slot, at: &Place) -> Result<(), Errno> {
        let (directory, name) = at.split().ok_or(Errno::BUSY)?;
        let parent = self.upper_of(&directory)?;
        let mut left = None;
        if self.rules == Rules::Kernel && slot.lower.is_some() {
            left = Some(*self.whiteout.get_or_insert_with(|| {
                self.upper.add(Object {
                    body: Body::Device,
                    mode: 0,
                    mtime: None,
                    origin: Origin::Whiteout,
                })
            }));
        }
        self.upper.set(parent, name, left);
        Ok(())
    }

    pub(super) fn unlink(&mut self, at: &Place) -> Result<(), Errno> {
        let slot = self.slot_at(at)?;
        let seen = self.shown(slot).ok_or(Errno::NOENT)?;
        if self.body(seen).is_dir() {
            return Err(Errno::ISDIR);
        }
        if self.rules == Rules::Here && seen.is_lower_only() {
            return Err(Errno::ROFS);
        }
        self.take(slot, at)
    }

    /// Tells whether a directory may go: here its upper side is empty, on the kernel what it shows;
    /// whiteouts are cleared away there unless the directory is the upper's alone. For rmdir that is
    /// one with nothing in the lower under its name (`below`), for rename one that does not merge.
    pub(super) fn must_be_empty(&self, below: Option<Ino>, seen: Seen) -> Result<(), Errno> {
        let full = match (self.rules, seen.upper, below) {
            (Rules::Here, Some(upper), _) | (Rules::Kernel, Some(upper), None) => {
                !self.upper.names(upper).is_empty()
            }
            _ => !self.list(seen).is_empty(),
        };
        if full { Err(Errno::NOTEMPTY) } else { Ok(()) }
    }

    pub(super) fn rmdir(&mut self, at: &Place) -> Result<(), Errno> {
        let slot = self.slot_at(at)?;
        let seen = self.shown(slot).ok_or(Errno::NOENT)?;
        if !self.body(seen).is_dir() {
            return Err(Errno::NOTDIR);
        }
        if self.rules == Rules::Here && seen.is_lower_only() {
            return Err(Errno::ROFS);
        }
        self.must_be_empty(slot.lower, seen)?;
        self.take(slot, at)?;
        seen.upper
            .into_iter()
            .for_each(|ino| self.upper.forget(ino));
        Ok(())
    }

    pub(super) fn link(&mut self, from: &Place, to: &Place) -> Result<(), Errno> {
        let source = self.find(from)?;
        let slot = self.slot_at(to)?;
        if self.shown(slot).is_some() {
            return Err(Errno::EXIST);
        }
        if self.body(source).is_dir() {
            return Err(Errno::PERM);
        }
        if self.rules == Rules::Here && source.is_lower_only() {
            return Err(Errno::XDEV);
        }
        let (directory, _) = to.split().ok_or(Errno::EXIST)?;
        let ino = self.upper_of(from)?;
        self.upper_of(&directory)?;
        if self.rules == Rules::Here {
            self.may_hide_nothing(source, slot, to)?;
        }
        self.place(slot, to, ino)
    }

    pub(super) fn chmod(&mut self, at: &Place, mode: u32) -> Result<(), Errno> {
        let seen = self.find(at)?;
        if *self.body(seen) == Body::Symlink {
            return Err(Errno::NOENT);
        }
        let ino = self.upper_of(at)?;
        self.upper.get_mut(ino).mode = mode;
        Ok(())
    }

    pub(super) fn set_time(&mut self, at: &Place, time: i64) -> Result<(), Errno> {
        let ino = self.upper_of(at)?;
        self.upper.get_mut(ino).mtime = Some(time);
        Ok(())
    }
}
