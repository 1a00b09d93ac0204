// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making new names.
//!
//! Invariant: a new object never shadows a name silently: both layers are asked first, and a
//! name that is taken is ESTALE, on which the kernel looks again. New objects are made in place.

use super::directory::UpperDir;
use super::lookup::{Entry, Survey};
use super::node::{Found, Merging, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Kind, LayerId, NewKind, Owner};
use crate::merge;
use std::os::fd::{AsFd, BorrowedFd};

impl MergedFs {
    /// Makes and opens a regular file.
    pub fn create(&self, parent: NodeId, name: &[u8], mode: u32, owner: Owner) -> Outcome<Entry> {
        let (dir, survey) = self.free_name(parent, name)?;
        self.uncover(&dir, name, &survey)?;
        let made = self
            .room
            .wait_for(|| self.upper.create(dir.fd(), name, mode, owner));
        let file = made.map_err(taken_is_stale)?;
        let entry = self.enter_new(parent, name, file.as_fd())?;
        self.keep_created(entry.node, file);
        Ok(entry)
    }

    /// Makes a directory, a symbolic link or a special file.
    pub fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        kind: NewKind<'_>,
        mode: u32,
        owner: Owner,
    ) -> Outcome<Entry> {
        let (dir, survey) = self.free_name(parent, name)?;
        self.uncover(&dir, name, &survey)?;
        let made = self
            .room
            .wait_for(|| self.upper.make(dir.fd(), name, kind, mode, owner));
        let made = made.map_err(taken_is_stale)?;
        if matches!(kind, NewKind::Directory) && survey.lower_has_dir() {
            // The name was hidden by a whiteout: what it hid must not show inside the new one.
            self.upper.set_opaque(made.as_fd())?;
        }
        self.enter_new(parent, name, made.as_fd())
    }

    /// Gives the object of `id` one more name.
    pub fn link(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Outcome<Entry> {
        let object = self.surviving(id, || {
            let source = self.locate(id)?;
            match source.layer {
                LayerId::Lower => Err(Errno::XDEV),
                LayerId::Upper => self.object_of(&source),
            }
        })?;
        let (dir, survey) = self.free_name(parent, name)?;
        let _moving = self.moving.read();
        self.uncover(&dir, name, &survey)?;
        self.upper
            .link(object.as_fd(), dir.fd(), name)
            .map_err(taken_is_stale)?;
        self.enter_new(parent, name, object.as_fd())
    }

    /// Returns the upper side of `parent` if `name` is free in it.
    fn free_name(&self, parent: NodeId, name: &[u8]) -> Outcome<(UpperDir, Survey)> {
        let sides = self.sides(parent)?;
        let survey = self.survey(parent, &sides, name)?;
        merge::may_make(sides.upper.is_some(), survey.shown).map_err(super::directory::errno)?;
        Ok((UpperDir::of(sides)?, survey))
    }

    /// Takes away a whiteout that stands where a new object is to be.
    fn uncover(&self, dir: &UpperDir, name: &[u8], survey: &Survey) -> Outcome<()> {
        if survey.whiteout() {
            self.upper.unlink(dir.fd(), name)
        } else {
            Ok(())
        }
    }

    fn enter_new(&self, parent: NodeId, name: &[u8], object: BorrowedFd<'_>) -> Outcome<Entry> {
        let stat = self.upper.stat(object)?;
        let settled = parent == NodeId::ROOT || self.table.with(parent, |node| node.settled)?;
        let merging = if stat.kind == Kind::Directory {
            Merging::Opaque
        } else {
            Merging::Unread
        };
        let found = Found {
            stat,
            layer: LayerId::Upper,
            lower_dir: None,
            merging,
            settled,
        };
        self.enter(parent, name, &found)
    }
}

/// The upper has the name although the probe did not see it: somebody was faster.
fn taken_is_stale(errno: Errno) -> Errno {
    if errno == Errno::EXIST {
        Errno::STALE
    } else {
        errno
    }
}
