// SPDX-License-Identifier: MIT OR Apache-2.0
//! Top-level names of which an old answer may still be on its way to the kernel.
//!
//! When the kernel checks a name that it knows, it takes the answer for good even if the name was
//! expired in between, and nothing tells when it has done so. Invariant: a name that has just
//! changed behind the mount is answered without a lifetime, and one that was answered with a
//! lifetime just before it changed is known for it, to be expired once more.

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::RwLock;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// How long a name that has changed is expected to change again.
const HOT: Duration = Duration::from_secs(1);
/// Within this time the kernel has taken an answer.
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(20);
/// Names that are remembered before those that are over are dropped.
const MANY: usize = 1024;

/// Moments by digest of a name, and when those that are over were last dropped.
type Moments = RwLock<(HashMap<u64, Instant>, Option<Instant>)>;

/// What is remembered of names that were just answered or changed.
#[derive(Debug, Default)]
pub(super) struct Hot {
    changed: Moments,
    answered: Moments,
    left: Moments,
    hasher: DefaultHashBuilder,
}

impl Hot {
    /// Notes that `name` is about to be answered; returns whether it may have a lifetime.
    pub(super) fn may_last(&self, name: &[u8]) -> bool {
        let digest = self.hasher.hash_one(name);
        if since(&self.changed, digest, HOT).is_some() {
            return false;
        }
        note(&self.answered, digest, ON_ITS_WAY);
        // A change that came in between has not seen the note.
        since(&self.changed, digest, HOT).is_none()
    }

    /// Notes that `name` has changed, or with `only_look` that it may have; returns when an answer
    /// was given that may still be on its way.
    pub(super) fn changed(&self, name: &[u8], only_look: bool) -> Option<Instant> {
        let digest = self.hasher.hash_one(name);
        let was_hot = since(&self.changed, digest, HOT).is_some();
        if !only_look {
            note(&self.changed, digest, HOT);
        }
        let answered = since(&self.answered, digest, ON_ITS_WAY);
        answered.filter(|_| !was_hot)
    }

    /// Notes that a name was just removed or moved away through the mount.
    pub(super) fn leaves(&self, name: &[u8]) {
        note(&self.left, self.hasher.hash_one(name), HOT);
    }

    /// Whether a name was just removed or moved away through the mount.
    pub(super) fn left_by_us(&self, name: &[u8]) -> bool {
        since(&self.left, self.hasher.hash_one(name), HOT).is_some()
    }

    /// Notes that the kernel itself has just made what `name` leads to.
    pub(super) fn made(&self, name: &[u8]) {
        if !self.changed.read().0.is_empty() {
            self.changed.write().0.remove(&self.hasher.hash_one(name));
        }
    }
}

fn since(moments: &Moments, digest: u64, within: Duration) -> Option<Instant> {
    let moment = moments.read().0.get(&digest).copied();
    moment.filter(|moment| moment.elapsed() < within)
}

fn note(moments: &Moments, digest: u64, within: Duration) {
    let now = Instant::now();
    let mut moments = moments.write();
    let (known, dropped) = &mut *moments;
    known.insert(digest, now);
    if known.len() > MANY && dropped.is_none_or(|dropped| dropped.elapsed() > within) {
        known.retain(|_, moment| moment.elapsed() < within);
        *dropped = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_has_changed_gets_no_lifetime() {
        let hot = Hot::default();
        assert!(hot.may_last(b"a"));
        assert!(hot.changed(b"a", false).is_some(), "just answered");
        assert!(!hot.may_last(b"a"));
        assert!(hot.changed(b"a", false).is_none(), "without a lifetime");
        assert!(hot.may_last(b"b") && hot.changed(b"c", false).is_none());
        hot.made(b"a");
        assert!(hot.may_last(b"a"));
    }
}
