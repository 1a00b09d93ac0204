// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading and changing the attributes of a node.
//!
//! Invariant: only objects of the upper layer change; for a merged directory that is its upper
//! side.

use super::locate::Located;
use super::node::{Merging, NodeId, sign};
use super::{Done, FOREVER, MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, LayerId, Stat, TimeChange, Times};
use std::os::fd::AsFd;
use std::time::Duration;

/// A change of attributes; what is `None` or [`TimeChange::Keep`] stays.
#[derive(Debug, Clone, Copy)]
pub struct AttrChange {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of a regular file in bytes.
    pub size: Option<u64>,
    /// Last access and last change of the contents.
    pub times: Times,
}

/// The attributes of a node.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// As the merged view shows them.
    pub stat: Stat,
    /// How long they may be trusted.
    pub ttl: Duration,
    /// Whether somebody has written to the file behind the mount since they were last asked for.
    /// The kernel must drop what it has of the old contents before it learns the new size: see
    /// [`MergedFs::after_dropping`].
    pub rewritten: bool,
}

impl MergedFs {
    /// Returns the attributes of a node and how long they may be trusted.
    pub fn getattr(&self, id: NodeId) -> Outcome<Attributes> {
        let stat = self.surviving(id, || self.stat_of(&self.locate(id)?))?;
        if id == NodeId::ROOT && !self.watching.on() {
            self.watch_tops(&stat)?;
        }
        self.answer(id, stat)
    }

    /// Changes the attributes of a node and returns the new ones.
    pub fn setattr(&self, id: NodeId, change: &AttrChange) -> Outcome<Attributes> {
        if let Some(pretended) = self.pretend_mode(id, change)? {
            return Ok(pretended);
        }
        let (located, object) = self.changeable(id)?;
        if let Some(size) = change.size {
            self.writable(id)?.truncate(size)?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            self.upper
                .set_owner(object.as_fd(), change.uid, change.gid)?;
        }
        if let Some(mode) = change.mode {
            self.keep_access(id, &located, mode)?;
            self.upper.set_mode(object.as_fd(), mode)?;
        }
        let kept = Times {
            atime: TimeChange::Keep,
            mtime: TimeChange::Keep,
        };
        if change.times != kept {
            self.upper.set_times(object.as_fd(), change.times)?;
        }
        let stat = self.upper.stat(object.as_fd())?;
        self.answer(id, stat)
    }

    /// A driver whose own access ends with the mode keeps a descriptor for those who have the
    /// file open.
    fn keep_access(&self, id: NodeId, located: &Located, mode: u32) -> Outcome<()> {
        let loses = !self.privileged && mode & 0o600 != 0o600;
        if !loses || located.kind != Kind::Regular {
            return Ok(());
        }
        match self.writable(id) {
            // Not the driver's own file: its mode never was what let the driver in.
            Ok(_) | Err(Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn answer(&self, id: NodeId, stat: Stat) -> Outcome<Attributes> {
        let signed = sign(&stat);
        let (merged, settled, known) = self.table.with(id, |node| {
            let merged = node.merging == Merging::Merged && node.upper.and(node.lower).is_some();
            (
                merged && node.held.is_none(),
                node.settled,
                node.sign == signed,
            )
        })?;
        let rewritten = !known
            && self.table.with_mut(id, |node| {
                node.sign = signed;
                node.layer() == LayerId::Lower && node.kind == Kind::Regular
            })?;
        let lasting = settled && (id != NodeId::ROOT || self.watching.on());
        Ok(Attributes {
            stat: self.shown(stat, merged),
            ttl: if lasting { FOREVER } else { self.lower_ttl },
            rewritten,
        })
    }

    /// Calls `done` once the kernel has dropped what it has cached of a file.
    pub fn after_dropping(&self, id: NodeId, done: Done) {
        self.notify(Notice::Contents { node: id });
        self.after_notices(done);
    }

    /// Returns the target of a symbolic link.
    pub fn readlink(&self, id: NodeId) -> Outcome<Vec<u8>> {
        self.surviving(id, || self.read_target(id))
    }

    fn read_target(&self, id: NodeId) -> Outcome<Vec<u8>> {
        use super::locate::{Place, gone_is_stale};
        let located = self.locate(id)?;
        let tree = self.tree(located.layer);
        match &located.place {
            Place::Root => Err(Errno::INVAL),
            Place::Held(held) => tree.read_link(held.as_fd(), b""),
            Place::Named(dir, name) => {
                let target = tree.read_link(dir.as_fd(), name).map_err(gone_is_stale)?;
                self.stat_of(&located)?;
                Ok(target)
            }
        }
    }
}
