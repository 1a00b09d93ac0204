// SPDX-License-Identifier: MIT OR Apache-2.0
//! New directories under names where the lower has one: they must be opaque from their first
//! moment, or what the lower has would show in them.
//!
//! Such a directory is made under a reserved name in the upper's top, marked there, and moved to
//! its own name. Invariant: whenever the driver ends, the name leads to what it led to before or
//! to the new directory, never to both; what is left under a reserved name is empty, is never
//! shown, and goes when the next driver starts.

use super::directory::UpperDir;
use super::lookup::Survey;
use super::make::taken_is_stale;
use super::node::NodeId;
use super::rename::{EXCHANGE, NOREPLACE};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, NewKind, Owner, Upper};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How reserved names begin.
const RESERVED: &[u8] = b".overstore-new-";
/// Reserved names in use; there are fewer request threads.
const SLOTS: u32 = 64;

/// Whether `name` in `parent` is one that only the driver uses.
pub(super) fn is_reserved(parent: NodeId, name: &[u8]) -> bool {
    parent == NodeId::ROOT && name.starts_with(RESERVED)
}

fn slot(number: u32) -> Vec<u8> {
    [RESERVED, number.to_string().as_bytes()].concat()
}

/// Removes what a driver left behind that was ended in the middle of it: empty directories, and
/// whiteouts in whose place one was put.
pub(super) fn sweep(upper: &Upper) {
    for number in 0..SLOTS {
        let name = slot(number);
        let removed = match upper.probe(upper.root().as_fd(), &name) {
            Ok(None) => continue,
            Ok(Some(stat)) if stat.is_zero_device() => upper.unlink(upper.root().as_fd(), &name),
            Ok(Some(_)) => upper.rmdir(upper.root().as_fd(), &name),
            Err(errno) => Err(errno),
        };
        if let Err(errno) = removed {
            log::warn!("remove left-over {}: {errno}", name.escape_ascii());
        }
    }
}

impl MergedFs {
    /// Makes the directory `name`, which hides a lower one, and returns a descriptor of it.
    pub(super) fn make_opaque(
        &self,
        dir: &UpperDir,
        name: &[u8],
        survey: &Survey,
        mode: u32,
        owner: Owner,
    ) -> Outcome<OwnedFd> {
        let (stage, made) = self.make_stage(owner)?;
        let placed = self
            .prepare(made.as_fd(), dir.fd(), mode, owner)
            .and_then(|()| self.place(&stage, dir, name, survey));
        if placed.is_err()
            && let Err(why) = self.upper.rmdir(self.upper.root().as_fd(), &stage)
        {
            log::warn!("remove half-made {}: {why}", name.escape_ascii());
        }
        placed.map(|()| made)
    }

    /// Makes an empty directory under the first free reserved name.
    fn make_stage(&self, owner: Owner) -> Outcome<(Vec<u8>, OwnedFd)> {
        for number in 0..SLOTS {
            let stage = slot(number);
            let made = self.room.wait_for(|| {
                let kind = NewKind::Directory;
                self.upper
                    .make(self.upper.root().as_fd(), &stage, kind, 0o700, owner)
            });
            match made {
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (stage, made)),
            }
        }
        Err(Errno::BUSY)
    }

    /// Marks a new directory and gives it what it would have if it had been made in `parent`.
    fn prepare(
        &self,
        made: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        mode: u32,
        owner: Owner,
    ) -> Outcome<()> {
        self.mark_opaque(made)?;
        let parent = self.upper.stat(parent)?;
        let inherits = parent.mode & 0o2000 != 0;
        if inherits {
            self.upper.set_owner(made, None, Some(parent.gid))?;
        } else if self.upper.stat(self.upper.root().as_fd())?.mode & 0o2000 != 0 {
            self.upper.set_owner(made, None, Some(owner.gid))?;
        }
        let group = if inherits { 0o2000 } else { 0 };
        self.upper.set_mode(made, mode | group)
    }

    /// Moves a directory from its reserved name to its own.
    fn place(&self, stage: &[u8], dir: &UpperDir, name: &[u8], survey: &Survey) -> Outcome<()> {
        let top = self.upper.root();
        let from = (top.as_fd(), stage);
        if survey.whiteout() {
            return self.replace_whiteout(from, (dir, name), survey);
        }
        self.arrive(from, (dir.fd(), name)).map_err(taken_is_stale)
    }

    /// Moves a directory to where a whiteout stands, which goes.
    pub(super) fn replace_whiteout(
        &self,
        from: (BorrowedFd<'_>, &[u8]),
        (dir, name): (&UpperDir, &[u8]),
        survey: &Survey,
    ) -> Outcome<()> {
        let to = (dir.fd(), name);
        match self.upper.rename(from, to, EXCHANGE) {
            Ok(()) => self.upper.unlink(from.0, from.1).inspect_err(|_| {
                if let Err(why) = self.upper.rename(from, to, EXCHANGE) {
                    log::warn!("move {} back: {why}", from.1.escape_ascii());
                }
            }),
            Err(Errno::INVAL) => self.uncovered(dir, name, survey, || self.arrive(from, to)),
            Err(errno) => Err(errno),
        }
    }

    fn arrive(&self, from: (BorrowedFd<'_>, &[u8]), to: (BorrowedFd<'_>, &[u8])) -> Outcome<()> {
        match self.upper.rename(from, to, NOREPLACE) {
            // A filesystem that knows no such flag.
            Err(Errno::INVAL) => self.upper.rename(from, to, 0),
            other => other,
        }
    }

    /// Marks a directory opaque, and says what to do where that cannot be.
    pub(super) fn mark_opaque(&self, made: BorrowedFd<'_>) -> Outcome<()> {
        self.upper.set_opaque(made).inspect_err(|errno| {
            log::error!(
                "mark a directory opaque: {errno}; the upper must be on a filesystem with \
                 extended attributes (trusted.* or user.*) to hide a lower directory"
            );
        })
    }
}
