// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing names.
//!
//! Invariant: what is removed is the upper's object; a lower one of the name shows again, unless
//! repair takes it out of sight.

use super::directory::{UpperDir, errno};
use super::node::{Found, Merging, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, LayerId, Stat};
use crate::merge;

impl MergedFs {
    /// Removes `name`, which is not a directory, for `user`.
    pub fn unlink(&self, parent: NodeId, name: &[u8], user: u32) -> Outcome<()> {
        self.remove(parent, name, user, false)
    }

    /// Removes the directory `name`, if its upper side is empty, for `user`.
    pub fn rmdir(&self, parent: NodeId, name: &[u8], user: u32) -> Outcome<()> {
        self.remove(parent, name, user, true)
    }

    fn remove(&self, parent: NodeId, name: &[u8], user: u32, directory: bool) -> Outcome<()> {
        let (sides, survey) = self.surveyed(parent, name)?;
        let _moving = self.moving.read();
        if self.repairs(&survey) {
            return self.remove_both((parent, name), sides, &survey, user, directory);
        }
        merge::may_remove(survey.shown).map_err(errno)?;
        let upper = survey.upper.ok_or(Errno::STALE)?;
        self.remove_upper(parent, &UpperDir::of(sides)?, name, &upper, user, directory)
    }

    /// Removes the upper's object `name`.
    pub(super) fn remove_upper(
        &self,
        parent: NodeId,
        dir: &UpperDir,
        name: &[u8],
        upper: &Stat,
        user: u32,
        directory: bool,
    ) -> Outcome<()> {
        let leaving = self.hold((parent, dir.fd()), name, upper, user)?;
        let removed = if directory {
            self.upper.rmdir(dir.fd(), name)
        } else {
            self.upper.unlink(dir.fd(), name)
        };
        if parent == NodeId::ROOT && removed.is_ok() {
            self.hot.leaves(name);
        }
        self.after(leaving, removed, parent, name)
    }

    /// Returns the node of an object of a layer, if the kernel knows it.
    pub(super) fn node_of(&self, layer: LayerId, object: &Stat) -> Option<NodeId> {
        self.table.find(&Found {
            stat: *object,
            layer,
            lower_dir: None,
            merging: Merging::Unread,
            settled: true,
        })
    }
}
