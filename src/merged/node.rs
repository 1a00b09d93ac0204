// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered of one object that the kernel knows.
//!
//! Invariant: a node holds nothing that could not be written down (the held descriptor of an
//! unlinked object aside): numbers, its parent and its own name, never a path.

use super::hold::Permit;
use crate::layer::{Ino, Kind, LayerId, Stat, WriteFd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The number by which the kernel names a node. Usually its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The merged directory itself.
    pub const ROOT: NodeId = NodeId(1);
}

/// What the marks of the upper side say about a directory that both layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// Nobody looked yet: marks are read when the directory is first entered.
    Unread,
    /// Both sides show.
    Merged,
    /// The upper side alone shows.
    Opaque,
}

/// One node. The numbers are those of the backing objects; one of them is always there.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    pub(super) name: Box<[u8]>,
    /// Further names of the object (hard links), oldest first; mostly none.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes in every node against 24 in a few"
    )]
    others: Option<Box<Vec<Place>>>,
    pub(super) upper: Option<Ino>,
    pub(super) lower: Option<Ino>,
    pub(super) kind: Kind,
    pub(super) merging: Merging,
    /// Whether everything below may be cached for good: nothing of it lies in a lower object
    /// that is still being filled.
    pub(super) settled: bool,
    /// Birth digest of the winning side, see [`Stat::birth`].
    pub(super) birth: u32,
    /// What the kernel was first told of the birth; a node that goes on from its twin keeps it.
    pub(super) generation: u32,
    /// Whether the object was last seen with several names.
    pub(super) linked: bool,
    /// What the object was last seen to hold, see [`sign`].
    pub(super) sign: u32,
    /// References that the kernel holds.
    pub(super) lookups: u64,
    /// Nodes that name this one as their parent.
    pub(super) children: u32,
    /// Holds the object once its name is gone.
    pub(super) held: Option<Held>,
    /// Whether this is a lower directory that was removed from sight. For the kernel it is dead for
    /// ever: when the object comes back it is another node.
    pub(super) dead: bool,
}

/// A descriptor that keeps an object whose name is gone, and with it its inode number.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// Enough for a driver that may open anything.
    Object(
        Arc<OwnedFd>,
        #[expect(dead_code, reason = "given back when dropped")] Permit,
    ),
    /// For a driver to which the file's mode may have become an obstacle.
    Writable(
        Arc<WriteFd>,
        #[expect(dead_code, reason = "given back when dropped")] Permit,
    ),
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Held::Object(fd, _) => fd.as_fd(),
            Held::Writable(fd, _) => fd.as_fd(),
        }
    }
}

/// One name in one directory.
pub(super) type Place = (NodeId, Box<[u8]>);

/// Names that are remembered of one object beyond the current one.
const MAX_OTHERS: usize = 8;

/// The parents that a change of a node's names brings in and leaves.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) entered: Option<NodeId>,
    pub(super) left: Option<NodeId>,
}

/// What a lookup found, on its way into the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The winning side's attributes.
    pub(super) stat: Stat,
    /// The layer that wins.
    pub(super) layer: LayerId,
    /// The lower directory that may merge with the upper one that was found.
    pub(super) lower_dir: Option<Ino>,
    /// Goes to [`Node::merging`].
    pub(super) merging: Merging,
    /// Goes to [`Node::settled`].
    pub(super) settled: bool,
}

impl Node {
    pub(super) fn new(parent: NodeId, name: &[u8], found: &Found) -> Node {
        let (upper, lower) = found.sides();
        Node {
            parent,
            name: name.into(),
            others: None,
            upper,
            lower,
            kind: found.stat.kind,
            merging: found.merging,
            settled: found.settled,
            birth: found.stat.birth,
            generation: found.stat.birth,
            linked: found.is_linked(),
            sign: sign(&found.stat),
            lookups: 1,
            children: 0,
            held: None,
            dead: false,
        }
    }

    /// The layer whose object this is.
    pub(super) fn layer(&self) -> LayerId {
        if self.upper.is_some() {
            LayerId::Upper
        } else {
            LayerId::Lower
        }
    }

    /// The number of the winning side's object.
    pub(super) fn ino(&self) -> Ino {
        self.upper.or(self.lower).unwrap_or(Ino(0))
    }

    /// The number of one side's object.
    pub(super) fn ino_in(&self, layer: LayerId) -> Option<Ino> {
        match layer {
            LayerId::Upper => self.upper,
            LayerId::Lower => self.lower,
        }
    }

    /// Whether the node's current name is `name` in `parent`.
    pub(super) fn is_at(&self, parent: NodeId, name: &[u8]) -> bool {
        self.parent == parent && *self.name == *name
    }

    /// Whether `name` in `parent` is the only name that is known.
    pub(super) fn is_only_at(&self, parent: NodeId, name: &[u8]) -> bool {
        self.is_at(parent, name) && self.others.is_none()
    }

    /// All names of the node that are known, with the directories that they are in.
    pub(super) fn places(&self) -> impl Iterator<Item = (NodeId, &[u8])> {
        let others = self.others.iter().flat_map(|others| others.iter());
        let others = others.map(|(parent, name)| (*parent, &**name));
        std::iter::once((self.parent, &*self.name)).chain(others)
    }

    /// All directories that the node's names are in.
    pub(super) fn parents(&self) -> impl Iterator<Item = NodeId> {
        self.places().map(|place| place.0)
    }

    /// Makes `name` in `parent` the current name; `linked` objects keep the old one as well.
    pub(super) fn found_at(&mut self, parent: NodeId, name: &[u8], linked: bool) -> Moves {
        if self.is_at(parent, name) {
            return Moves::default();
        }
        let known = self.take_other(parent, name);
        let old = (
            std::mem::replace(&mut self.parent, parent),
            self.set_name(name),
        );
        let entered = (!known).then_some(parent);
        if !linked {
            return Moves {
                entered,
                left: Some(old.0),
            };
        }
        let others = self.others.get_or_insert_default();
        others.push(old);
        let left = (others.len() > MAX_OTHERS).then(|| others.remove(0).0);
        Moves { entered, left }
    }

    /// Forgets the name `name` in `parent`; the last name stays, whatever became of it.
    pub(super) fn gone_from(&mut self, parent: NodeId, name: &[u8]) -> Moves {
        if self.take_other(parent, name) {
            return Moves {
                entered: None,
                left: Some(parent),
            };
        }
        if self.is_at(parent, name)
            && let Some(mut others) = self.others.take()
            && let Some((parent, name)) = others.pop()
        {
            self.others = Some(others).filter(|others| !others.is_empty());
            self.name = name;
            let left = Some(std::mem::replace(&mut self.parent, parent));
            return Moves {
                entered: None,
                left,
            };
        }
        Moves::default()
    }

    fn set_name(&mut self, name: &[u8]) -> Box<[u8]> {
        std::mem::replace(&mut self.name, name.into())
    }

    fn take_other(&mut self, parent: NodeId, name: &[u8]) -> bool {
        let Some(others) = &mut self.others else {
            return false;
        };
        let at = others
            .iter()
            .position(|place| place.0 == parent && *place.1 == *name);
        let taken = at.map(|at| others.remove(at)).is_some();
        if others.is_empty() {
            self.others = None;
        }
        taken
    }

    /// Whether `found` is the very object of this node.
    pub(super) fn is(&self, found: &Found) -> bool {
        let same_object = self.layer() == found.layer
            && self.ino() == found.stat.ino
            && self.kind == found.stat.kind
            && self.birth == found.stat.birth;
        // A lower file that somebody still writes is another file after each change: what the
        // kernel has cached of the old one must not show.
        let written = found.layer == LayerId::Lower
            && found.stat.kind == Kind::Regular
            && self.sign != sign(&found.stat);
        same_object && !written && !self.dead
    }
}

impl Found {
    fn sides(&self) -> (Option<Ino>, Option<Ino>) {
        match self.layer {
            LayerId::Upper => (Some(self.stat.ino), self.lower_dir),
            LayerId::Lower => (None, Some(self.stat.ino)),
        }
    }

    /// Brings what may have changed on a known node up to date.
    pub(super) fn refresh(&self, node: &mut Node) {
        let (upper, lower) = self.sides();
        if node.lower != lower || self.merging != Merging::Unread {
            node.merging = self.merging;
        }
        (node.upper, node.lower, node.settled) = (upper, lower, self.settled);
        node.sign = sign(&self.stat);
        node.linked = self.is_linked();
    }

    /// Whether the object has several names.
    pub(super) fn is_linked(&self) -> bool {
        self.stat.nlink > 1 && self.stat.kind != Kind::Directory
    }
}

/// Returns a digest of size and time of the contents: two finished store objects of one name with
/// the same digest hold the same.
pub(super) fn sign(stat: &Stat) -> u32 {
    let time = stat.mtime.seconds.cast_unsigned().rotate_left(32);
    let mixed =
        (stat.size ^ time ^ u64::from(stat.mtime.nanoseconds)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as u32
}
