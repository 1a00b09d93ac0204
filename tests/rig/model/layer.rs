// SPDX-License-Identifier: MIT OR Apache-2.0
//! One directory tree in memory.
//!
//! Invariant: an object keeps its number for ever, also when its last name is gone; so what is open
//! stays what it is.

use crate::op::{Given, LOWER_TIME, NOWHERE, Name, Place, Side, Thing, UPPER_TIME, first_content};
use crate::outcome::{Entry, data};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The number of an object in its layer.
pub(crate) type Ino = usize;

/// The top directory.
pub(crate) const TOP: Ino = 0;

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Dir {
        names: BTreeMap<Name, Ino>,
        opaque: bool,
    },
    File(Rc<Vec<u8>>),
    Symlink,
    Fifo,
    /// The character device 0/0.
    Device,
}

impl Body {
    /// Returns an empty directory.
    pub(crate) fn dir(opaque: bool) -> Self {
        Body::Dir {
            names: BTreeMap::new(),
            opaque,
        }
    }

    /// Returns a file with `content`.
    pub(crate) fn file(content: Vec<u8>) -> Self {
        Body::File(Rc::new(content))
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self, Body::Dir { .. })
    }

    /// Names the kind in one word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Body::Dir { .. } => "dir",
            Body::File(_) => "file",
            Body::Symlink => "symlink",
            Body::Fifo => "fifo",
            Body::Device => "char",
        }
    }
}

/// An object; `mtime` is `None` when the clock set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) body: Body,
    pub(crate) mode: u32,
    pub(crate) mtime: Option<i64>,
    pub(crate) origin: Origin,
}

/// Where an object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was made as what it is.
    Made,
    /// The kernel copied it from this one of the lower.
    Copied(Ino),
    /// The kernel made it as a whiteout: one object with many names, one of them its own.
    Whiteout,
}

/// A tree.
#[derive(Debug, Clone)]
pub(crate) struct Layer(Vec<Object>);

impl Layer {
    /// Returns a layer that is empty.
    pub(crate) fn new(time: i64) -> Self {
        Layer(vec![Object {
            body: Body::dir(false),
            mode: 0o755,
            mtime: Some(time),
            origin: Origin::Made,
        }])
    }

    pub(crate) fn get(&self, ino: Ino) -> &Object {
        &self.0[ino]
    }

    pub(crate) fn get_mut(&mut self, ino: Ino) -> &mut Object {
        &mut self.0[ino]
    }

    /// Adds an object that has no name yet.
    pub(crate) fn add(&mut self, object: Object) -> Ino {
        self.0.push(object);
        self.0.len() - 1
    }

    /// Returns the names of a directory; none of anything else.
    pub(crate) fn names(&self, ino: Ino) -> BTreeMap<Name, Ino> {
        match &self.get(ino).body {
            Body::Dir { names, .. } => names.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns what a directory has under `name`.
    pub(crate) fn child(&self, directory: Ino, name: &Name) -> Option<Ino> {
        match &self.get(directory).body {
            Body::Dir { names, .. } => names.get(name).copied(),
            _ => None,
        }
    }

    /// Gives `name` in `directory` to another object, or to none. The directory's time goes on.
    pub(crate) fn set(&mut self, directory: Ino, name: &Name, object: Option<Ino>) {
        let holder = self.get_mut(directory);
        holder.mtime = None;
        if let Body::Dir { names, .. } = &mut holder.body {
            match object {
                Some(ino) => names.insert(name.clone(), ino),
                None => names.remove(name),
            };
        }
    }

    pub(crate) fn set_opaque(&mut self, ino: Ino) {
        if let Body::Dir { opaque, .. } = &mut self.get_mut(ino).body {
            *opaque = true;
        }
    }

    /// Takes away what an object holds that goes: its entries count no links any more.
    pub(crate) fn forget(&mut self, ino: Ino) {
        if let Body::Dir { names, .. } = &mut self.get_mut(ino).body {
            let inside: Vec<_> = std::mem::take(names).into_values().collect();
            inside.into_iter().for_each(|ino| self.forget(ino));
        }
    }

    /// Returns the number of names that lead to an object.
    pub(super) fn links(&self, ino: Ino) -> u64 {
        let names = |object: &Object| match &object.body {
            Body::Dir { names, .. } => names.values().filter(|one| **one == ino).count(),
            _ => 0,
        };
        self.0.iter().map(names).sum::<usize>() as u64
    }

    /// Describes an object as everybody sees it.
    pub(crate) fn entry(&self, ino: Ino, owner: (u32, u32)) -> Entry {
        let object = self.get(ino);
        let (size, content) = match &object.body {
            Body::File(bytes) => (bytes.len(), Some(data(bytes))),
            Body::Symlink => (NOWHERE.len(), Some(data(NOWHERE))),
            _ => (0, None),
        };
        let numbers = (!object.body.is_dir()).then(|| (size as u64, self.links(ino)));
        let mode = if object.body == Body::Symlink {
            0o777
        } else {
            object.mode
        };
        Entry {
            kind: object.body.kind(),
            mode,
            owner,
            numbers,
            mtime: object.mtime,
            open_links: object.origin == Origin::Whiteout,
            content,
        }
    }

    /// Finds a path in this layer alone.
    fn at(&self, place: &Place) -> Option<Ino> {
        place
            .0
            .iter()
            .try_fold(TOP, |directory, name| self.child(directory, name))
    }

    /// Adds what a specification gives this layer; tells whether it can be there.
    fn give(&mut self, given: &Given) -> bool {
        let Some((directory, name)) = given.place.split() else {
            return false;
        };
        let time = if given.side == Side::Lower {
            LOWER_TIME
        } else {
            UPPER_TIME
        };
        let mut parent = TOP;
        for step in &directory.0 {
            parent = match self.child(parent, step) {
                Some(ino) if self.get(ino).body.is_dir() => ino,
                Some(_) => return false,
                None => self.put(parent, step, Body::dir(false), time),
            };
        }
        if self.child(parent, name).is_some() {
            return false;
        }
        let body = match &given.thing {
            Thing::Dir => Body::dir(false),
            Thing::Opaque => Body::dir(true),
            Thing::File(length) => Body::file(first_content(given.side, &given.place, *length)),
            Thing::Symlink => Body::Symlink,
            Thing::Fifo => Body::Fifo,
            Thing::Whiteout => Body::Device,
            Thing::Link(from) => {
                let found = self
                    .at(from)
                    .filter(|ino| matches!(self.get(*ino).body, Body::File(_)));
                self.set(parent, name, found);
                self.get_mut(parent).mtime = Some(time);
                return found.is_some();
            }
        };
        self.put(parent, name, body, time);
        true
    }

    /// Puts a new object under a name, as the builder of a layer does: all times are set.
    pub(crate) fn put(&mut self, parent: Ino, name: &Name, body: Body, time: i64) -> Ino {
        let mode = if body.is_dir() { 0o755 } else { 0o644 };
        let ino = self.add(Object {
            body,
            mode,
            mtime: Some(time),
            origin: Origin::Made,
        });
        self.set(parent, name, Some(ino));
        self.get_mut(parent).mtime = Some(time);
        ino
    }
}

/// Builds the lower and the upper, and tells which of the given objects can be there.
pub(crate) fn build(given: &[Given]) -> (Layer, Layer, Vec<Given>) {
    let (mut lower, mut upper) = (Layer::new(LOWER_TIME), Layer::new(UPPER_TIME));
    let mut kept = Vec::new();
    for one in given {
        let layer = if one.side == Side::Lower {
            &mut lower
        } else {
            &mut upper
        };
        // Parents that were made for something impossible would not be made in a real layer.
        let before = layer.clone();
        match layer.give(one) {
            true => kept.push(one.clone()),
            false => *layer = before,
        }
    }
    (lower, upper, kept)
}
