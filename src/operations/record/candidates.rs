// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names may be objects to record, and when they are looked at next.
//!
//! Invariant: a name is looked at no sooner than [`QUIET`] after anything was heard of it, and each
//! time that it is put off it waits twice as long, until it is left alone for good.

use crate::store::ObjectName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long nothing of an object may have changed.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// How often an object is put off, unless something is heard of it: for 17 minutes in all.
const TRIES: u32 = 9;

/// As many objects are read, locked and registered at once.
pub(super) const MOST: usize = 256;

/// What the name of a lock has that is not in the name of its object.
const LOCK: &[u8] = b".lock";

/// The names, each with the time of its next turn.
#[derive(Debug, Default)]
pub(super) struct Candidates(BTreeMap<ObjectName, Turn>);

#[derive(Debug)]
struct Turn {
    at: Instant,
    put_off: u32,
    /// What it waits for.
    on: BTreeSet<ObjectName>,
}

impl Turn {
    fn at(at: Instant) -> Turn {
        Turn {
            at,
            put_off: 0,
            on: BTreeSet::new(),
        }
    }
}

impl Candidates {
    /// Something was heard of a name. A lock that comes or goes tells of its object too.
    pub(super) fn notice(&mut self, name: &[u8], now: Instant) {
        let object = name.strip_suffix(LOCK).map(ObjectName::parse);
        for name in [Some(ObjectName::parse(name)), object]
            .into_iter()
            .flatten()
        {
            let Ok(name) = name else {
                continue;
            };
            self.0.insert(name, Turn::at(now + QUIET));
        }
    }

    /// Takes the names whose turn has come. Each is to be told of again, unless it is to be left
    /// alone.
    pub(super) fn take_due(&mut self, now: Instant) -> BTreeSet<ObjectName> {
        let due = self.0.iter().filter(|(_, turn)| turn.at <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Returns how long it is to the next turn; `None` if nobody waits for one.
    pub(super) fn next_due(&self, now: Instant) -> Option<Duration> {
        let next = self.0.values().map(|turn| turn.at).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Has `name` looked at at a time that is known, which counts as no delay.
    pub(super) fn rest(&mut self, name: &ObjectName, until: Instant) {
        if let Some(turn) = self.0.get_mut(name) {
            turn.at = until;
        }
    }

    /// Has all of `names` looked at again from `at` on.
    pub(super) fn recover(&mut self, names: impl IntoIterator<Item = ObjectName>, at: Instant) {
        for name in names {
            self.rest(&name, at);
        }
    }

    /// Puts `name` off, and waits for `on`; `false` if that was often enough, and it is left alone
    /// until something is heard of it or of those.
    pub(super) fn put_off(
        &mut self,
        name: &ObjectName,
        on: BTreeSet<ObjectName>,
        now: Instant,
    ) -> bool {
        let Some(turn) = self.0.get_mut(name) else {
            return true;
        };
        if turn.put_off >= TRIES {
            self.0.remove(name);
            return false;
        }
        turn.put_off += 1;
        turn.at = now + QUIET * 2u32.saturating_pow(turn.put_off);
        turn.on = on;
        true
    }

    /// `name` is valid: it is no candidate any more, and who waits for it has a turn.
    pub(super) fn done(&mut self, name: &ObjectName, now: Instant) {
        self.0.remove(name);
        for turn in self.0.values_mut() {
            if turn.on.remove(name) {
                turn.at = now;
            }
        }
    }

    /// Leaves `name` alone until something is heard of it.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectName {
        ObjectName::parse(format!("{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
    }

    #[test]
    fn a_name_has_its_turn_when_it_is_quiet() {
        let (mut all, start) = (Candidates::default(), Instant::now());
        let (one, two) = (object("one"), object("two"));
        assert_eq!(all.next_due(start), None);
        all.notice(one.as_str().as_bytes(), start);
        all.notice(b"tmp-1-2", start);
        all.notice(format!("{two}.lock").as_bytes(), start + QUIET / 2);
        assert_eq!(all.next_due(start), Some(QUIET));
        assert!(all.take_due(start + QUIET / 2).is_empty());
        assert_eq!(all.take_due(start + QUIET), [one.clone()].into());
        // Heard of again: later.
        all.notice(one.as_str().as_bytes(), start + QUIET);
        assert!(all.take_due(start + QUIET).is_empty());
        let lock = object("two.lock");
        let three = [one, two, lock].into();
        assert_eq!(all.take_due(start + QUIET * 2), three);
    }

    #[test]
    fn who_is_put_off_waits_longer_each_time_and_not_for_ever() {
        let (mut all, start) = (Candidates::default(), Instant::now());
        let one = object("one");
        all.notice(one.as_str().as_bytes(), start);
        let mut now = start + QUIET;
        let mut before = QUIET;
        for _ in 0..TRIES {
            assert!(all.put_off(&one, BTreeSet::new(), now));
            let wait = all.next_due(now).unwrap();
            assert_eq!(wait, before * 2);
            (before, now) = (wait, now + wait);
            assert_eq!(all.take_due(now), [one.clone()].into());
        }
        assert!(!all.put_off(&one, BTreeSet::new(), now));
        assert_eq!(all.next_due(now), None);
    }

    #[test]
    fn who_waits_for_another_has_a_turn_when_that_is_done() {
        let (mut all, start) = (Candidates::default(), Instant::now());
        let (one, two) = (object("one"), object("two"));
        all.notice(one.as_str().as_bytes(), start);
        all.notice(two.as_str().as_bytes(), start);
        assert!(all.put_off(&one, [two.clone()].into(), start));
        all.forget(&two);
        assert!(all.take_due(start + QUIET).is_empty());
        all.done(&two, start);
        assert_eq!(all.take_due(start), [one].into());
    }
}
