// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference model: two trees in memory, and the rules of docs/semantics.md about what is seen
//! of them and what a change does.
//!
//! It knows two sets of rules, this driver's and those of the kernel's OverlayFS. Invariant: it
//! shares no code with the driver.

pub(crate) mod change;
pub(crate) mod layer;
mod open;
pub(crate) mod outside;
mod rename;

use crate::op::{Name, Op, Place, Spec};
use crate::outcome::{Outcome, Snapshot};
use layer::{Body, Ino, Layer, TOP};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// This driver's: nothing is copied up, no whiteout is left.
    Here,
    /// Those of the kernel's OverlayFS, without index, redirect and metacopy.
    Kernel,
}

/// What is seen under a path: an object of the upper, of the lower, or (two directories) of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) upper: Option<Ino>,
    pub(crate) lower: Option<Ino>,
}

impl Seen {
    pub(crate) fn is_merged(self) -> bool {
        self.upper.is_some() && self.lower.is_some()
    }

    pub(crate) fn is_lower_only(self) -> bool {
        self.upper.is_none()
    }
}

/// What each layer has under one name, whether it is seen or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) upper: Option<Ino>,
    /// A whiteout in the lower is nothing.
    pub(crate) lower: Option<Ino>,
    pub(crate) parent: Seen,
}

/// The model of one view.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) rules: Rules,
    pub(crate) lower: Layer,
    pub(crate) upper: Layer,
    owner: (u32, u32),
    /// Objects of the lower that lost a name behind the mount, since it was made. This driver keeps
    /// their attributes (docs/semantics.md, "Known limits").
    recounted: BTreeSet<Ino>,
    /// What the kernel leaves in the place of names, from one mount to the next.
    whiteout: Option<Ino>,
    slots: [Option<open::Handle>; crate::generate::SLOTS],
}

impl Model {
    /// Returns the model of the layers that `spec` gives, whose objects belong to `owner`.
    pub(crate) fn new(rules: Rules, spec: &Spec, owner: (u32, u32)) -> Self {
        let (lower, upper, _) = layer::build(&spec.given);
        Model {
            rules,
            lower,
            upper,
            owner,
            recounted: BTreeSet::new(),
            whiteout: None,
            slots: Default::default(),
        }
    }

    /// Returns the same layers under other rules, as after mounting them with the other backend.
    pub(crate) fn under(&self, rules: Rules) -> Self {
        Model {
            rules,
            recounted: BTreeSet::new(),
            whiteout: None,
            slots: Default::default(),
            ..self.clone()
        }
    }

    /// What is seen at the top: both layers, always.
    fn top() -> Seen {
        Seen {
            upper: Some(TOP),
            lower: Some(TOP),
        }
    }

    /// Returns what both layers have under `name` of a directory that is seen.
    pub(crate) fn slot(&self, parent: Seen, name: &Name) -> Slot {
        let lower = match self.rules == Rules::Here && parent == Self::top() && name == b".links" {
            true => None,
            false => parent.lower.and_then(|ino| self.lower.child(ino, name)),
        };
        let lower = lower.filter(|ino| self.lower.get(*ino).body != Body::Device);
        let upper = parent.upper.and_then(|ino| self.upper.child(ino, name));
        // A whiteout hides a lower link, and those are not shown here anyway.
        let links = self.is_links(parent, name);
        let upper = upper.filter(|ino| !links || self.upper.get(*ino).body != Body::Device);
        Slot {
            upper,
            lower,
            parent,
        }
    }

    /// Whether this driver shows nothing of the lower there: `.links`, and what is in it.
    fn is_links(&self, parent: Seen, name: &Name) -> bool {
        let links = Seen {
            upper: self.upper.child(TOP, &b".links".to_vec()),
            lower: None,
        };
        let there = parent == Self::top() && name == b".links";
        self.rules == Rules::Here && (there || parent == links)
    }

    /// The table of docs/semantics.md, "Reading".
    pub(crate) fn shown(&self, slot: Slot) -> Option<Seen> {
        let Some(upper) = slot.upper else {
            return slot.lower.map(|lower| Seen {
                upper: None,
                lower: Some(lower),
            });
        };
        let alone = Seen {
            upper: Some(upper),
            lower: None,
        };
        match &self.upper.get(upper).body {
            Body::Device if self.rules == Rules::Kernel || slot.lower.is_some() => None,
            Body::Dir { opaque: false, .. } => {
                let lower = slot.lower.filter(|ino| self.lower.get(*ino).body.is_dir());
                Some(Seen { lower, ..alone })
            }
            _ => Some(alone),
        }
    }

    /// Finds a path.
    pub(crate) fn find(&self, place: &Place) -> Result<Seen, Errno> {
        let mut seen = Self::top();
        for name in &place.0 {
            seen = self.shown(self.enter(seen, name)?).ok_or(Errno::NOENT)?;
        }
        Ok(seen)
    }

    /// Looks for `name` in what is seen, which must be a directory.
    fn enter(&self, seen: Seen, name: &Name) -> Result<Slot, Errno> {
        match self.body(seen) {
            Body::Dir { .. } => Ok(self.slot(seen, name)),
            Body::Symlink => Err(Errno::NOENT),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Returns what both layers have at a path whose directory is there.
    pub(crate) fn slot_at(&self, place: &Place) -> Result<Slot, Errno> {
        let (directory, name) = place.split().ok_or(Errno::BUSY)?;
        self.enter(self.find(&directory)?, name)
    }

    /// Returns what is seen of an object: the upper's where there is one.
    pub(crate) fn body(&self, seen: Seen) -> &Body {
        match (seen.upper, seen.lower) {
            (Some(upper), _) => &self.upper.get(upper).body,
            (None, Some(lower)) => &self.lower.get(lower).body,
            (None, None) => unreachable!("something is seen"),
        }
    }

    /// Returns the names that a directory shows.
    pub(crate) fn list(&self, seen: Seen) -> Vec<(Name, Seen)> {
        let mut names = BTreeSet::new();
        names.extend(
            seen.upper
                .into_iter()
                .flat_map(|ino| self.upper.names(ino).into_keys()),
        );
        names.extend(
            seen.lower
                .into_iter()
                .flat_map(|ino| self.lower.names(ino).into_keys()),
        );
        let shown = |name: Name| Some((name.clone(), self.shown(self.slot(seen, &name))?));
        names.into_iter().filter_map(shown).collect()
    }

    fn entry(&self, seen: Seen) -> crate::outcome::Entry {
        match seen {
            Seen {
                upper: Some(ino), ..
            } => self.upper.entry(ino, self.owner),
            Seen { lower, .. } => {
                let ino = lower.unwrap_or(TOP);
                crate::outcome::Entry {
                    open_links: self.rules == Rules::Here && self.recounted.contains(&ino),
                    ..self.lower.entry(ino, self.owner)
                }
            }
        }
    }

    /// Returns everything that is seen.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.walk(&Place::default(), Self::top(), &mut |place, seen| {
            snapshot.entries.insert(place.clone(), self.entry(seen));
        });
        snapshot
    }

    fn walk(&self, place: &Place, seen: Seen, tell: &mut impl FnMut(&Place, Seen)) {
        tell(place, seen);
        for (name, inside) in self.list(seen) {
            self.walk(&place.join(&name), inside, tell);
        }
    }

    /// Returns every path below the top, and which of them are directories.
    pub(crate) fn places(&self) -> (Vec<Place>, Vec<Place>) {
        let (mut all, mut directories) = (Vec::new(), Vec::new());
        self.walk(&Place::default(), Self::top(), &mut |place, seen| {
            if self.body(seen).is_dir() {
                directories.push(place.clone());
            }
            all.push(place.clone());
        });
        all.remove(0);
        (all, directories)
    }

    /// Returns every path where a whiteout hides something.
    pub(crate) fn whiteouts(&self) -> Vec<Place> {
        let mut hidden = Vec::new();
        self.walk(&Place::default(), Self::top(), &mut |place, seen| {
            let names = seen.upper.map(|ino| self.upper.names(ino));
            for name in names.into_iter().flat_map(BTreeMap::into_keys) {
                if self.shown(self.slot(seen, &name)).is_none() {
                    hidden.push(place.join(&name));
                }
            }
        });
        hidden
    }

    /// Does one operation.
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create(at) => self.make(at, Body::file(Vec::new())).into(),
            Op::Mkdir(at) => self.make(at, Body::dir(false)).into(),
            Op::Symlink(at) => self.make(at, Body::Symlink).into(),
            Op::Fifo(at) => self.make(at, Body::Fifo).into(),
            Op::Device(at) => self.make(at, Body::Device).into(),
            Op::Open(slot, at, access) => self.open(*slot, at, *access),
            Op::Read {
                slot,
                offset,
                length,
            } => self.read(*slot, *offset, *length),
            Op::Write {
                slot,
                offset,
                length,
                salt,
            } => self.write(*slot, *offset, *length, *salt),
            Op::Close(slot) => self.close(*slot),
            Op::Fsync(slot) => self.sync(*slot),
            Op::Truncate(at, size) => self.truncate(at, *size),
            Op::Unlink(at) => self.unlink(at).into(),
            Op::Rmdir(at) => self.rmdir(at).into(),
            Op::Rename(from, to, manner) => self.rename(from, to, *manner).into(),
            Op::Link(from, to) => self.link(from, to).into(),
            Op::Chmod(at, mode) => self.chmod(at, *mode).into(),
            Op::SetTimes(at, time) => self.set_time(at, *time).into(),
            Op::ReadDir(at) => self
                .read_dir(at)
                .map_or_else(Outcome::Failed, Outcome::Names),
            Op::Stat(at) => match self.find(at) {
                Ok(seen) => Outcome::Stat(self.entry(seen)),
                Err(error) => Outcome::Failed(error),
            },
            Op::Remount => {
                self.close_all();
                self.recounted.clear();
                self.whiteout = None;
                Outcome::Done
            }
            Op::HandOver => Outcome::Done,
            Op::OutsideAddLower(at, is_dir) => self.outside_add(at, *is_dir),
            Op::OutsideRemoveDuplicate(at) => self.outside_remove(at),
            Op::OutsideReplaceLower(at) => self.outside_replace(at),
        }
    }

    fn read_dir(&self, at: &Place) -> Result<Vec<(Name, &'static str)>, Errno> {
        let seen = self.find(at)?;
        match self.body(seen) {
            Body::Dir { .. } => {}
            Body::Symlink => return Err(Errno::NOENT),
            _ => return Err(Errno::NOTDIR),
        }
        if let (Rules::Kernel, Some(upper), None) = (self.rules, seen.upper, seen.lower) {
            // The kernel lists the directory as it is, whiteouts and all.
            let names = self.upper.names(upper).into_iter();
            let kind = |(name, ino)| (name, self.upper.get(ino).body.kind());
            return Ok(names.map(kind).collect());
        }
        let kind = |(name, inside)| (name, self.body(inside).kind());
        Ok(self.list(seen).into_iter().map(kind).collect())
    }
}
