// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a node to its backing object: by descriptor where one is kept, else by the names of its
//! parents, one directory at a time.
//!
//! Invariant: what is found is the node's own object (same number, same birth) or the answer is
//! ESTALE.

use super::node::{Held, Merging, Node, NodeId};
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Ino, Kind, LayerId, Stat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Notices a way upwards that comes back to where it was: directories that were moved into each
/// other behind the mount have no top.
#[derive(Debug)]
pub(super) struct Circle {
    mark: NodeId,
    left: usize,
    span: usize,
}

impl Circle {
    pub(super) fn new(start: NodeId) -> Circle {
        Circle {
            mark: start,
            left: 1,
            span: 1,
        }
    }

    /// Takes one step to `at`; ESTALE once the way has met itself.
    pub(super) fn step(&mut self, at: NodeId) -> Outcome<()> {
        if at == self.mark {
            return Err(Errno::STALE);
        }
        self.left -= 1;
        if self.left == 0 {
            self.span *= 2;
            (self.left, self.mark) = (self.span, at);
        }
        Ok(())
    }
}

/// Where the object of a node is.
#[derive(Debug)]
pub(super) enum Place {
    /// The top directory.
    Root,
    /// A name in a directory.
    Named(Arc<OwnedFd>, Box<[u8]>),
    /// Nowhere any more; a descriptor keeps it.
    Held(Held),
}

/// A node's object, located.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) layer: LayerId,
    pub(super) kind: Kind,
    pub(super) place: Place,
    ino: Ino,
    birth: u32,
}

/// The directories that make up one merged directory; at least one is there.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    pub(super) upper: Option<Arc<OwnedFd>>,
    pub(super) lower: Option<Arc<OwnedFd>>,
    /// Whether the directory has lost its name.
    pub(super) removed: bool,
}

/// A descriptor that either is kept elsewhere or was opened for one use.
#[derive(Debug)]
pub(super) enum ObjectFd {
    Kept(Held),
    Opened(OwnedFd),
    Root(Arc<OwnedFd>),
}

impl AsFd for ObjectFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ObjectFd::Kept(held) => held.as_fd(),
            ObjectFd::Opened(fd) => fd.as_fd(),
            ObjectFd::Root(fd) => fd.as_fd(),
        }
    }
}

impl Located {
    fn new(node: &Node, place: Place) -> Located {
        Located {
            layer: node.layer(),
            kind: node.kind,
            place,
            ino: node.ino(),
            birth: node.birth,
        }
    }

    /// Passes `stat` on if it is the node's own object.
    pub(super) fn own(&self, stat: Stat) -> Outcome<Stat> {
        let own = stat.ino == self.ino && stat.kind == self.kind && stat.birth == self.birth;
        if own { Ok(stat) } else { Err(Errno::STALE) }
    }
}

impl MergedFs {
    /// Finds where the object of `id` is.
    pub(super) fn locate(&self, id: NodeId) -> Outcome<Located> {
        if id == NodeId::ROOT {
            return self.table.with(id, |node| Located::new(node, Place::Root));
        }
        let (located, named) = self.table.with(id, |node| match &node.held {
            Some(held) => (Located::new(node, Place::Held(held.clone())), None),
            None => (
                Located::new(node, Place::Root),
                Some((node.parent, node.name.clone())),
            ),
        })?;
        let Some((parent, name)) = named else {
            return Ok(located);
        };
        let dir = self.dir_fd(parent, located.layer)?;
        let name = self.standing_at(parent, located.layer, name);
        Ok(Located {
            place: Place::Named(dir, name),
            ..located
        })
    }

    /// Returns the attributes of a located object.
    pub(super) fn stat_of(&self, located: &Located) -> Outcome<Stat> {
        let tree = self.tree(located.layer);
        match &located.place {
            Place::Root => tree.stat(tree.root().as_fd()),
            Place::Held(held) => tree.stat(held.as_fd()),
            Place::Named(dir, name) => {
                located.own(tree.probe(dir.as_fd(), name)?.ok_or(Errno::STALE)?)
            }
        }
    }

    /// Returns a descriptor of a located object, good for everything but its data.
    pub(super) fn object_of(&self, located: &Located) -> Outcome<ObjectFd> {
        let tree = self.tree(located.layer);
        match &located.place {
            Place::Root => Ok(ObjectFd::Root(tree.root())),
            Place::Held(held) => Ok(ObjectFd::Kept(held.clone())),
            Place::Named(dir, name) => {
                let fd = tree.open_object(dir.as_fd(), name).map_err(gone_is_stale)?;
                located.own(tree.stat(fd.as_fd())?)?;
                Ok(ObjectFd::Opened(fd))
            }
        }
    }

    /// Returns the object of `id` for a change of it; EROFS if it is the lower's.
    pub(super) fn changeable(&self, id: NodeId) -> Outcome<(Located, ObjectFd)> {
        self.surviving(id, || {
            let located = self.locate(id)?;
            if located.layer == LayerId::Lower {
                return Err(Errno::ROFS);
            }
            let object = self.object_of(&located)?;
            Ok((located, object))
        })
    }

    /// Returns the directories behind a directory node, marks considered.
    pub(super) fn sides(&self, id: NodeId) -> Outcome<Sides> {
        if id == NodeId::ROOT {
            return Ok(self.top());
        }
        let (kind, upper, lower, merging, held) = self.table.with(id, |node| {
            (
                node.kind,
                node.upper,
                node.lower,
                node.merging,
                node.held.clone(),
            )
        })?;
        let mut sides = Sides {
            upper: None,
            lower: None,
            removed: false,
        };
        if kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        if let Some(Held::Object(fd, _)) = held {
            return Ok(Sides {
                upper: Some(fd),
                removed: true,
                ..sides
            });
        }
        let mut merging = merging;
        if upper.is_some() {
            let upper = self.dir_fd(id, LayerId::Upper)?;
            if merging == Merging::Unread {
                merging = self.read_merging(id, &upper)?;
            }
            sides.upper = Some(upper);
        }
        if lower.is_some() && (upper.is_none() || merging == Merging::Merged) {
            sides.lower = Some(self.dir_fd(id, LayerId::Lower)?);
        }
        Ok(sides)
    }

    fn top(&self) -> Sides {
        Sides {
            upper: Some(self.upper.root()),
            lower: Some(self.lower.root()),
            removed: false,
        }
    }

    /// Reads the marks of an upper directory that is entered for the first time.
    fn read_merging(&self, id: NodeId, upper: &Arc<OwnedFd>) -> Outcome<Merging> {
        let marks = self.upper.marks(upper.as_fd())?;
        if marks.redirect {
            let name = self.table.with(id, |node| node.name.clone())?;
            log::error!(
                "directory {} in the upper has an overlay redirect mark, which is not followed; \
                 mount it with OverlayFS and redirect_dir=on, and copy it",
                name.escape_ascii()
            );
            return Err(Errno::IO);
        }
        let merging = if marks.opaque {
            Merging::Opaque
        } else {
            Merging::Merged
        };
        self.table.with_mut(id, |node| node.merging = merging)?;
        Ok(merging)
    }

    /// Returns the descriptor by which names in one side of a directory are reached: from the
    /// nearest parent whose descriptor is kept, one name at a time.
    pub(super) fn dir_fd(&self, id: NodeId, layer: LayerId) -> Outcome<Arc<OwnedFd>> {
        let mut below = Vec::new();
        let mut circle = Circle::new(id);
        let mut at = id;
        let mut dir = loop {
            if let Some(dir) = self.kept_dir(at, layer)? {
                break dir;
            }
            below.push(at);
            at = self.table.with(at, |node| node.parent)?;
            circle.step(at)?;
        };
        while let Some(id) = below.pop() {
            let number = self.table.with(id, |node| node.ino_in(layer))?;
            dir = Arc::new(self.open_dir(id, layer, dir.as_fd())?);
            self.dirs.put((id, layer), Arc::clone(&dir));
            if self.table.with(id, |node| node.ino_in(layer))? != number {
                // The node has got another directory meanwhile, and dropped what was kept before.
                self.dirs.remove((id, layer));
                return Err(Errno::STALE);
            }
        }
        Ok(dir)
    }

    fn kept_dir(&self, id: NodeId, layer: LayerId) -> Outcome<Option<Arc<OwnedFd>>> {
        if id == NodeId::ROOT {
            return Ok(Some(self.tree(layer).root()));
        }
        if let Some(dir) = self.dirs.get((id, layer)) {
            return Ok(Some(dir));
        }
        match self.table.with(id, |node| node.held.clone())? {
            Some(Held::Object(dir, _)) if layer == LayerId::Upper => Ok(Some(dir)),
            _ => Ok(None),
        }
    }

    /// Opens one side of a directory by its name in `parent`.
    fn open_dir(&self, id: NodeId, layer: LayerId, parent: BorrowedFd<'_>) -> Outcome<OwnedFd> {
        let tree = self.tree(layer);
        let ((above, name), own, located) = self.table.with(id, |node| {
            let located = Located::new(node, Place::Root);
            let place = (node.parent, node.name.clone());
            (place, node.ino_in(layer), located)
        })?;
        let name = self.standing_at(above, layer, name);
        let dir = tree.open_dir(parent, &name).map_err(gone_is_stale)?;
        let stat = tree.stat(dir.as_fd())?;
        if layer == located.layer {
            located.own(stat)?;
        } else if Some(stat.ino) != own {
            return Err(Errno::STALE);
        }
        Ok(dir)
    }
}

/// A name that no longer leads to the node's object is no answer about the object.
pub(super) fn gone_is_stale(errno: Errno) -> Errno {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::STALE,
        other => other,
    }
}
