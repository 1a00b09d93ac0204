// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing names.
//!
//! Invariant: an object that the kernel knows is held by a descriptor before its last known name
//! goes, so that whoever has it open keeps it and its inode number is not given away.

use super::directory::{UpperDir, errno};
use super::lookup::Survey;
use super::node::{Found, Held, Merging, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Kind, LayerId, Stat};
use crate::merge;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

impl MergedFs {
    /// Removes `name`, which is not a directory; a lower object of the name shows again.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Outcome<()> {
        let (dir, upper) = self.removable(parent, name)?;
        let known = self.hold(parent, dir.fd(), name, &upper)?;
        self.after(known, self.upper.unlink(dir.fd(), name), parent, name)
    }

    /// Removes the directory `name` if its upper side is empty; a lower one shows again.
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Outcome<()> {
        let (dir, upper) = self.removable(parent, name)?;
        let known = self.hold(parent, dir.fd(), name, &upper)?;
        self.after(known, self.upper.rmdir(dir.fd(), name), parent, name)
    }

    fn removable(&self, parent: NodeId, name: &[u8]) -> Outcome<(UpperDir, Stat)> {
        let sides = self.sides(parent)?;
        let survey: Survey = self.survey(parent, &sides, name)?;
        merge::may_remove(survey.shown).map_err(errno)?;
        Ok((UpperDir::of(sides)?, survey.upper.ok_or(Errno::STALE)?))
    }

    /// Prepares the removal of `name` for the node that it leads to, if the kernel knows one:
    /// an object without another known name is held.
    pub(super) fn hold(
        &self,
        parent: NodeId,
        dir: BorrowedFd<'_>,
        name: &[u8],
        upper: &Stat,
    ) -> Outcome<Option<NodeId>> {
        let Some(id) = self.node_of(upper) else {
            return Ok(None);
        };
        if self.table.with(id, |node| node.is_only_at(parent, name))? {
            let held = self.held(dir, name, upper)?;
            self.table.with_mut(id, |node| node.held = Some(held))?;
            self.room.removed();
        }
        Ok(Some(id))
    }

    fn held(&self, dir: BorrowedFd<'_>, name: &[u8], upper: &Stat) -> Outcome<Held> {
        if !self.privileged && upper.kind == Kind::Regular {
            match self.upper.open_write(dir, name) {
                Ok(file) => return Ok(Held::Writable(Arc::new(file))),
                // Somebody else's file: nobody can have it open for writing through this driver.
                Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        let object = self.upper.open_object(dir, name)?;
        Ok(Held::Object(Arc::new(object)))
    }

    /// Tells the node of a removed name about it, or undoes the holding if the name stayed.
    pub(super) fn after<T>(
        &self,
        known: Option<NodeId>,
        done: Outcome<T>,
        parent: NodeId,
        name: &[u8],
    ) -> Outcome<T> {
        match (known, &done) {
            (None, _) => {}
            (Some(id), Ok(_)) => self.table.gone(id, parent, name),
            (Some(id), Err(_)) => self.table.with_mut(id, |node| node.held = None)?,
        }
        done
    }

    /// Returns the node of an upper object, if the kernel knows it.
    pub(super) fn node_of(&self, upper: &Stat) -> Option<NodeId> {
        self.table.find(&Found {
            stat: *upper,
            layer: LayerId::Upper,
            lower_dir: None,
            merging: Merging::Unread,
            settled: true,
        })
    }
}
