// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing names.
//!
//! Invariant: what is removed is the upper's object; a lower one of the name shows again.

use super::directory::{UpperDir, errno};
use super::node::{Found, Merging, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, LayerId, Stat};
use crate::merge;

impl MergedFs {
    /// Removes `name`, which is not a directory, for `user`.
    pub fn unlink(&self, parent: NodeId, name: &[u8], user: u32) -> Outcome<()> {
        self.remove(parent, name, user, |dir| self.upper.unlink(dir.fd(), name))
    }

    /// Removes the directory `name`, if its upper side is empty, for `user`.
    pub fn rmdir(&self, parent: NodeId, name: &[u8], user: u32) -> Outcome<()> {
        self.remove(parent, name, user, |dir| self.upper.rmdir(dir.fd(), name))
    }

    fn remove(
        &self,
        parent: NodeId,
        name: &[u8],
        user: u32,
        remove: impl FnOnce(&UpperDir) -> Outcome<()>,
    ) -> Outcome<()> {
        let (dir, upper) = self.removable(parent, name)?;
        let _moving = self.moving.read();
        let leaving = self.hold((parent, dir.fd()), name, &upper, user)?;
        self.after(leaving, remove(&dir), parent, name)
    }

    fn removable(&self, parent: NodeId, name: &[u8]) -> Outcome<(UpperDir, Stat)> {
        let (sides, survey) = self.surveyed(parent, name)?;
        merge::may_remove(survey.shown).map_err(errno)?;
        Ok((UpperDir::of(sides)?, survey.upper.ok_or(Errno::STALE)?))
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
