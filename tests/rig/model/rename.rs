// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving names, in the order in which the kernel's file layer and then a filesystem refuse.
//!
//! Invariant: a rename that fails changes nothing that is seen.

use super::layer::{Body, Origin};
use super::{Model, Rules, Seen, Slot};
use crate::op::{Manner, Op, Place};
use rustix::io::Errno;

/// Both ends of a rename.
struct Move<'a> {
    from: &'a Place,
    to: &'a Place,
    source: Slot,
    target: Slot,
    moved: Seen,
    replaced: Option<Seen>,
    manner: Manner,
}

fn is_below(place: &Place, above: &Place) -> bool {
    place.0.len() > above.0.len() && place.0.starts_with(&above.0)
}

impl Model {
    pub(super) fn rename(&mut self, from: &Place, to: &Place, manner: Manner) -> Result<(), Errno> {
        let (source, target) = (self.slot_at(from)?, self.slot_at(to)?);
        let moved = self.shown(source).ok_or(Errno::NOENT)?;
        let replaced = self.shown(target);
        match (manner, replaced) {
            (Manner::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Manner::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if is_below(to, from) {
            return Err(Errno::INVAL);
        }
        if is_below(from, to) {
            return Err(match manner {
                Manner::Exchange => Errno::INVAL,
                Manner::Plain | Manner::NoReplace => Errno::NOTEMPTY,
            });
        }
        if from == to || self.is_same(moved, replaced) {
            return Ok(());
        }
        if let (Some(replaced), Manner::Plain) = (replaced, manner) {
            match (self.body(moved).is_dir(), self.body(replaced).is_dir()) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                _ => {}
            }
        }
        let plan = Move {
            from,
            to,
            source,
            target,
            moved,
            replaced,
            manner,
        };
        match self.rules {
            Rules::Here => self.may_move_here(&plan)?,
            Rules::Kernel => {
                let may = self.may_move_on_kernel(&plan);
                may.inspect_err(|_| self.touch(&plan))?;
            }
        }
        self.do_move(&plan)
    }

    /// Two names of one file. The kernel's view has an object per lower name.
    fn is_same(&self, moved: Seen, replaced: Option<Seen>) -> bool {
        let one_file = self.rules == Rules::Here || !moved.is_lower_only();
        replaced == Some(moved) && one_file
    }

    /// Tells whether the kernel moves one name of a file that it copied up onto another. In a user
    /// namespace it cannot follow where a copy comes from, and takes the two for different objects
    /// until it mounts anew: ESTALE instead of nothing to do.
    pub(crate) fn moves_onto_itself(&self, op: &Op) -> bool {
        let Op::Rename(from, to, _) = op else {
            return false;
        };
        let copy = |place: &Place| {
            let ino = self.find(place).ok()?.upper?;
            matches!(self.upper.get(ino).origin, Origin::Copied(_)).then_some(ino)
        };
        let (from, to) = (copy(from), copy(to));
        self.rules == Rules::Kernel && from.is_some() && from == to
    }

    /// Tells whether an end of a rename is a directory of the lower that is open. The kernel may know it
    /// by a way that is gone (the upper side of a directory above was removed), and cannot learn the
    /// new one in the middle of a rename: ESTALE instead of EROFS (docs/semantics.md, "Known limits").
    pub(crate) fn names_an_open_directory(&self, op: &Op) -> bool {
        let Op::Rename(from, to, _) = op else {
            return false;
        };
        let open = |place: &Place| {
            let seen = self
                .find(place)
                .ok()
                .filter(|seen| self.body(*seen).is_dir());
            let lower = seen.and_then(|seen| seen.lower);
            lower.is_some_and(|ino| self.is_open_below(ino))
        };
        self.rules == Rules::Here && (open(from) || open(to))
    }

    fn may_move_here(&self, plan: &Move<'_>) -> Result<(), Errno> {
        let top_links = |at: &Place| at.0.len() == 1 && at.0[0] == b".links";
        let has_dir = |seen: Seen| {
            seen.upper
                .is_some_and(|ino| self.upper.get(ino).body.is_dir())
        };
        let other = plan.replaced.filter(|_| plan.manner == Manner::Exchange);
        let moves_dir = has_dir(plan.moved) || other.is_some_and(has_dir);
        if moves_dir && (top_links(plan.from) || top_links(plan.to)) {
            return Err(Errno::XDEV);
        }
        self.may_hide_nothing(plan.moved, plan.target, plan.to)?;
        let lower_only = |seen: Seen| seen.is_lower_only();
        if lower_only(plan.moved) {
            return Err(Errno::ROFS);
        }
        if plan.moved.is_merged() {
            return Err(Errno::XDEV);
        }
        if plan.replaced.is_some_and(lower_only) || plan.target.parent.upper.is_none() {
            return Err(Errno::ROFS);
        }
        match (plan.manner, plan.replaced) {
            (Manner::Exchange, Some(other)) => {
                self.may_land(plan.moved, plan.target, plan.to)?;
                self.may_land(other, plan.source, plan.from)
            }
            (_, Some(other)) if self.body(other).is_dir() => {
                if !other.is_merged() {
                    self.may_land(plan.moved, plan.target, plan.to)?;
                }
                // Both sides: what the moved directory merges with afterwards is empty.
                self.must_be_empty(None, other)?;
                match self.list(other).is_empty() {
                    true => Ok(()),
                    false => Err(Errno::NOTEMPTY),
                }
            }
            _ => self.may_land(plan.moved, plan.target, plan.to),
        }
    }

    /// A 0/0 device does not become a whiteout, as it also would in `.links`.
    pub(super) fn may_hide_nothing(
        &self,
        moved: Seen,
        target: Slot,
        to: &Place,
    ) -> Result<(), Errno> {
        let (_, name) = to.split().ok_or(Errno::BUSY)?;
        let hides = target.lower.is_some() || self.is_links(target.parent, name);
        match *self.body(moved) == Body::Device && hides {
            true => Err(Errno::XDEV),
            false => Ok(()),
        }
    }

    /// A directory that is merged, or would be where it goes, stays where it is. Where a whiteout
    /// hides the lower one it is marked opaque.
    fn may_land(&self, moved: Seen, target: Slot, to: &Place) -> Result<(), Errno> {
        self.may_hide_nothing(moved, target, to)?;
        let whiteout = target
            .upper
            .is_some_and(|ino| self.upper.get(ino).body == Body::Device);
        let over = !whiteout
            && target
                .lower
                .is_some_and(|ino| self.lower.get(ino).body.is_dir());
        match self.body(moved).is_dir() && (moved.is_merged() || over) {
            true => Err(Errno::XDEV),
            false => Ok(()),
        }
    }

    fn may_move_on_kernel(&self, plan: &Move<'_>) -> Result<(), Errno> {
        let stays = |seen: Seen| self.body(seen).is_dir() && seen.lower.is_some();
        if stays(plan.moved) {
            return Err(Errno::XDEV);
        }
        match plan.replaced {
            Some(other) if plan.manner == Manner::Exchange && stays(other) => Err(Errno::XDEV),
            Some(other) if plan.manner == Manner::Plain && self.body(other).is_dir() => {
                self.must_be_empty(other.lower, other)
            }
            _ => Ok(()),
        }
    }

    /// The kernel may have begun when it refuses: the clock may have set the directories' times.
    fn touch(&mut self, plan: &Move<'_>) {
        let parents = [plan.source.parent.upper, plan.target.parent.upper];
        for ino in parents.into_iter().flatten() {
            self.upper.get_mut(ino).mtime = None;
        }
    }

    fn do_move(&mut self, plan: &Move<'_>) -> Result<(), Errno> {
        let moved = self.upper_of(plan.from)?;
        if let (Some(_), Manner::Exchange) = (plan.replaced, plan.manner) {
            let other = self.upper_of(plan.to)?;
            self.place(plan.target, plan.to, moved)?;
            return self.place(plan.source, plan.from, other);
        }
        let (directory, _) = plan.to.split().ok_or(Errno::BUSY)?;
        self.upper_of(&directory)?;
        self.take(plan.source, plan.from)?;
        if let Some(Seen {
            upper: Some(ino), ..
        }) = plan.replaced
        {
            self.upper.forget(ino);
        }
        self.place(plan.target, plan.to, moved)
    }
}
