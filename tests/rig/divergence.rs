// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where this driver and the kernel's OverlayFS may differ, as data.
//!
//! Invariant: a row says why, and under which heading of docs/semantics.md a user finds it; one
//! that a big run never needs is a fault.

use crate::model::{Model, Rules, Seen};
use crate::op::{Op, Place};
use crate::outcome::Outcome;
use rustix::io::Errno;

/// A step that the two backends do not do alike.
pub(crate) struct Case<'a> {
    /// `None` is the first look at both layers.
    pub(crate) op: Option<&'a Op>,
    /// The model of this driver's view before the step.
    pub(crate) before: &'a Model,
    pub(crate) here: &'a Outcome,
    pub(crate) kernel: &'a Outcome,
}

/// An allowed difference.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The heading in docs/semantics.md.
    pub(crate) heading: &'static str,
    pub(crate) here: &'static str,
    pub(crate) kernel: &'static str,
    pub(crate) why: &'static str,
    pub(crate) matches: fn(&Case<'_>) -> bool,
}

const DIFFERENCES: &str = "Differences from kernel OverlayFS, on purpose";
const WRITING: &str = "Writing";
/// `overstore compare` meets it as well.
const LINKS: &overstore::compare::Row = &overstore::compare::ROWS[0];

/// All of them; the first that matches counts.
pub(crate) const ROWS: [Row; 9] = [
    Row {
        name: LINKS.name,
        heading: LINKS.heading,
        here: LINKS.here,
        kernel: LINKS.kernel,
        why: LINKS.why,
        matches: |case| case.names(b".links"),
    },
    Row {
        name: "device",
        heading: DIFFERENCES,
        here: "a 0/0 device with nothing to hide is a device, and can be made",
        kernel: "not there, though a directory of the upper alone lists it; EPERM when made",
        why: "there is no name that it could stand for",
        matches: |case| case.shows_a_device(),
    },
    Row {
        name: "lower-file-opened",
        heading: DIFFERENCES,
        here: "opening a lower file for writing leaves it where it is",
        kernel: "copied up at open",
        why: "no request reaches the driver at open; finished store objects do not change",
        matches: |case| matches!(case.op, Some(Op::Open(_, at, access)) if access.writes() && case.is_lower_only(at)),
    },
    Row {
        name: "lower-changed",
        heading: WRITING,
        here: "EROFS",
        kernel: "copied up and changed, or hidden by a whiteout",
        why: "finished store objects do not change",
        matches: |case| *case.here == Outcome::Failed(Errno::ROFS),
    },
    Row {
        name: "lower-linked",
        heading: WRITING,
        here: "a second name for a lower file is EXDEV",
        kernel: "copied up and linked",
        why: "nothing is copied up; a caller of link(2) copies after EXDEV",
        matches: |case| {
            matches!(case.op, Some(Op::Link(..))) && *case.here == Outcome::Failed(Errno::XDEV)
        },
    },
    Row {
        name: "lower-shows-again",
        heading: DIFFERENCES,
        here: "what is moved or removed from over a lower name uncovers it",
        kernel: "a whiteout stays in its place",
        why: "the upper holds store objects only",
        matches: |case| case.uncovers() && *case.here == Outcome::Done,
    },
    Row {
        name: "upper-side-with-whiteouts",
        heading: WRITING,
        here: "a directory whose upper side still holds whiteouts is ENOTEMPTY",
        kernel: "removed or replaced when nothing shows inside",
        why: "removing the upper side would uncover what they hide: who removes an empty directory would get a full one",
        matches: |case| {
            *case.here == Outcome::Failed(Errno::NOTEMPTY) && *case.kernel == Outcome::Done
        },
    },
    Row {
        name: "directory-over-hidden",
        heading: WRITING,
        here: "moving a directory to where the lower has one is EXDEV",
        kernel: "moved, and marked opaque",
        why: "the hidden contents would show in it; a caller of rename(2) copies after EXDEV",
        matches: |case| {
            matches!(case.op, Some(Op::Rename(..))) && *case.here == Outcome::Failed(Errno::XDEV)
        },
    },
    Row {
        name: "layers-change-underneath",
        heading: DIFFERENCES,
        here: "what the lower gains later merges with a directory that was made in the view",
        kernel: "undefined; a directory made in a merged one is marked opaque",
        why: "the lower store grows while it is in use",
        matches: |case| matches!(case.op, Some(Op::OutsideAddLower(..))),
    },
];

impl Case<'_> {
    fn places(&self) -> Vec<Place> {
        match self.op {
            // Everything is seen in a new way.
            None | Some(Op::HandOver) => self.before.under(Rules::Kernel).places().0,
            Some(op) => op.places().into_iter().cloned().collect(),
        }
    }

    /// Tells whether a path begins with `name`.
    fn names(&self, name: &[u8]) -> bool {
        let first = |place: &Place| place.0.first().is_some_and(|first| first == name);
        self.places().iter().any(first)
    }

    fn shows_a_device(&self) -> bool {
        match self.op {
            Some(op) => matches!(op, Op::Device(_)) && *self.kernel == Outcome::Failed(Errno::PERM),
            None => self
                .before
                .snapshot()
                .entries
                .values()
                .any(|entry| entry.kind == "char"),
        }
    }

    fn is_lower_only(&self, at: &Place) -> bool {
        self.before.find(at).is_ok_and(Seen::is_lower_only)
    }

    /// Tells whether something goes from over a lower name.
    fn uncovers(&self) -> bool {
        let gone = match self.op {
            Some(Op::Unlink(at) | Op::Rmdir(at) | Op::Rename(at, ..)) => at,
            _ => return false,
        };
        let slot = self.before.slot_at(gone);
        slot.is_ok_and(|slot| slot.upper.is_some() && slot.lower.is_some())
    }
}

/// Returns the row that allows a difference.
pub(crate) fn row(case: &Case<'_>) -> Option<usize> {
    ROWS.iter().position(|row| (row.matches)(case))
}
