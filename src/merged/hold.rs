// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holding objects whose names are gone, and how many.
//!
//! An object that the kernel knows is held by a descriptor before its last known name goes, so that
//! whoever has it open keeps it and its inode number is not given away. Invariant: nobody can use
//! up the driver's descriptors by keeping removed files open: it is the one who removes more who
//! gets the error (ENFILE).

use super::node::{Held, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Kind, LayerId, Stat};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Counts held objects, all together and by the user who removed them.
#[derive(Debug)]
pub(super) struct Holds {
    limit: usize,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    users: HashMap<u32, usize>,
}

/// The right to hold one object; given back when the last copy goes.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    _share: Arc<Share>,
}

#[derive(Debug)]
struct Share {
    user: u32,
    counts: Arc<Mutex<Counts>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.users.remove(&self.user);
            }
        }
    }
}

impl Holds {
    /// Half of the descriptors may hold removed objects.
    pub(super) fn new() -> Holds {
        Holds::with_limit(super::fds::limit() / 2)
    }

    fn with_limit(limit: usize) -> Holds {
        Holds {
            limit,
            counts: Arc::default(),
        }
    }

    /// Asks for one more object of `user`, who may have half of all; root may have all.
    fn permit(&self, user: u32) -> Outcome<Permit> {
        let mut counts = self.counts.lock();
        let own = counts.users.get(&user).copied().unwrap_or(0);
        if counts.all >= self.limit || (user != 0 && own >= self.limit / 2) {
            return Err(Errno::NFILE);
        }
        counts.all += 1;
        *counts.users.entry(user).or_default() += 1;
        drop(counts);
        let counts = Arc::clone(&self.counts);
        Ok(Permit {
            _share: Arc::new(Share { user, counts }),
        })
    }
}

/// The node of a name that is about to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    id: NodeId,
    /// Whether it is held because of this.
    held: bool,
}

impl MergedFs {
    /// Prepares the removal of `name` by `user` for the node that it leads to, if the kernel knows
    /// one: an object whose last name this may be is held.
    pub(super) fn hold(
        &self,
        (parent, dir): (NodeId, BorrowedFd<'_>),
        name: &[u8],
        upper: &Stat,
        user: u32,
    ) -> Outcome<Option<Leaving>> {
        let Some(id) = self.node_of(LayerId::Upper, upper) else {
            return Ok(None);
        };
        let last = upper.nlink == 1 || upper.kind == Kind::Directory;
        let needed = self.table.with(id, |node| {
            node.held.is_none() && (last || node.is_only_at(parent, name))
        })?;
        if needed {
            let held = self.held(dir, name, upper, user)?;
            self.table.with_mut(id, |node| node.held = Some(held))?;
            self.room.removed();
        }
        Ok(Some(Leaving { id, held: needed }))
    }

    fn held(&self, dir: BorrowedFd<'_>, name: &[u8], upper: &Stat, user: u32) -> Outcome<Held> {
        let permit = self.holds.permit(user)?;
        let same = |stat: Stat| {
            let same = stat.ino == upper.ino && stat.birth == upper.birth;
            if same { Ok(()) } else { Err(Errno::STALE) }
        };
        if !self.privileged && upper.kind == Kind::Regular {
            match self.upper.open_write(dir, name) {
                Ok(file) => {
                    same(self.upper.stat(file.as_fd())?)?;
                    return Ok(Held::Writable(Arc::new(file), permit));
                }
                // Somebody else's file: nobody can have it open for writing through this driver.
                Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        let object = self.upper.open_object(dir, name)?;
        same(self.upper.stat(object.as_fd())?)?;
        Ok(Held::Object(Arc::new(object), permit))
    }

    /// Tells the node of a removed name about it, or undoes the holding if the name stayed.
    pub(super) fn after<T>(
        &self,
        leaving: Option<Leaving>,
        done: Outcome<T>,
        parent: NodeId,
        name: &[u8],
    ) -> Outcome<T> {
        match (leaving, &done) {
            (Some(leaving), Ok(_)) => self.table.gone(leaving.id, parent, name),
            (Some(leaving), Err(_)) if leaving.held => {
                self.table.with_mut(leaving.id, |node| node.held = None)?;
            }
            _ => {}
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_cannot_take_everything() {
        let holds = Holds::with_limit(4);
        let first = holds.permit(1000).expect("room");
        let _second = holds.permit(1000).expect("room");
        assert_eq!(holds.permit(1000).map(drop), Err(Errno::NFILE));
        let _others = [
            holds.permit(1001).expect("room"),
            holds.permit(0).expect("room"),
        ];
        assert_eq!(holds.permit(0).map(drop), Err(Errno::NFILE));
        let copy = first.clone();
        drop(first);
        assert_eq!(holds.permit(1000).map(drop), Err(Errno::NFILE));
        drop(copy);
        assert!(holds.permit(1000).is_ok());
    }
}
