// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to the two trees behind the view, and whether the kernel can serve what is left.
//!
//! Invariant: only this changes the lower.

use super::layer::{Body, Ino, Origin, TOP};
use super::{Model, Rules, Seen};
use crate::op::{LATER_TIME, Place, pattern};
use crate::outcome::Outcome;
use std::collections::BTreeMap;

/// How long what comes into the lower later is, as a file.
pub(crate) const LATER_LENGTH: u64 = 77;
/// What it has inside, as a directory.
pub(crate) const LATER_INSIDE: &[u8] = b"a";

impl Model {
    pub(super) fn outside_add(&mut self, at: &Place, is_dir: bool) -> Outcome {
        self.close_all();
        let [name] = at.0.as_slice() else {
            return Outcome::Nothing;
        };
        if self.lower.child(TOP, name).is_some() {
            return Outcome::Nothing;
        }
        let file = Body::file(pattern(LATER_LENGTH, 0));
        if is_dir {
            let ino = self.lower.put(TOP, name, Body::dir(false), LATER_TIME);
            self.lower
                .put(ino, &LATER_INSIDE.to_vec(), file, LATER_TIME);
        } else {
            self.lower.put(TOP, name, file, LATER_TIME);
        }
        self.lower.get_mut(TOP).mtime = None;
        Outcome::Done
    }

    pub(super) fn outside_remove(&mut self, at: &Place) -> Outcome {
        self.close_all();
        let [name] = at.0.as_slice() else {
            return Outcome::Nothing;
        };
        let (Some(upper), Some(_)) = (self.upper.child(TOP, name), self.lower.child(TOP, name))
        else {
            return Outcome::Nothing;
        };
        if self.upper.get(upper).body == Body::Device {
            return Outcome::Nothing;
        }
        self.upper.forget(upper);
        self.upper.set(TOP, name, None);
        Outcome::Done
    }

    pub(super) fn outside_replace(&mut self, at: &Place) -> Outcome {
        self.close_all();
        let [name] = at.0.as_slice() else {
            return Outcome::Nothing;
        };
        let is_file = |ino: &Ino| matches!(self.lower.get(*ino).body, Body::File(_));
        let Some(found) = self.lower.child(TOP, name).filter(is_file) else {
            return Outcome::Nothing;
        };
        self.recounted.insert(found);
        self.lower
            .put(TOP, name, Body::file(pattern(LATER_LENGTH, 1)), LATER_TIME);
        self.lower.get_mut(TOP).mtime = None;
        Outcome::Done
    }

    /// Tells whether the kernel's OverlayFS may mount the layers. A file that it copied up refers to
    /// the lower one that it came from, by which it knows both. Where the lower one shows as well,
    /// because the name in the upper or the whiteout over it is gone, it finds one object for two
    /// and answers ESTALE.
    pub(crate) fn suits_kernel(&self) -> bool {
        let model = self.under(Rules::Kernel);
        let mut known: BTreeMap<Ino, Option<Ino>> = BTreeMap::new();
        let mut suits = true;
        model.walk(&Place::default(), Self::top(), &mut |_, seen| {
            let came_from = match seen {
                Seen {
                    lower: Some(ino), ..
                } => Some(ino),
                Seen { upper, .. } => upper.and_then(|ino| match model.upper.get(ino).origin {
                    Origin::Copied(lower) => Some(lower),
                    Origin::Made | Origin::Whiteout => None,
                }),
            };
            // Of several names in the lower it knows that a copy parts them.
            let one =
                |ino: &Ino| model.lower.get(*ino).body.is_dir() || model.lower.links(*ino) == 1;
            if let Some(ino) = came_from.filter(one) {
                suits &= *known.entry(ino).or_insert(seen.upper) == seen.upper;
            }
        });
        suits
    }
}
