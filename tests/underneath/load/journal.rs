// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a name was when: the states that it had, each with the time in which it may be the answer.
//!
//! Invariant: a change is noted before it is made, so whoever asks afterwards finds every state that
//! the answer may come from.

use std::collections::BTreeMap;
use std::time::Instant;

/// One object of the store, as those who look see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    File {
        ino: u64,
        content: String,
    },
    Link {
        ino: u64,
        target: String,
    },
    Dir {
        ino: u64,
        inside: BTreeMap<String, Item>,
    },
}

/// One state of a name; `None` is absence.
#[derive(Debug, Clone)]
struct State {
    item: Option<Item>,
    /// When the change to it began.
    from: Instant,
    /// When the change away from it was visible everywhere.
    until: Option<Instant>,
}

/// The states of one name, oldest first.
#[derive(Debug)]
pub(crate) struct History(Vec<State>);

impl History {
    /// Starts with what is there before anybody looks.
    pub(crate) fn new(item: Option<Item>) -> Self {
        let from = Instant::now();
        let until = None;
        History(vec![State { item, from, until }])
    }

    /// Returns the newest state.
    pub(crate) fn now(&self) -> Option<&Item> {
        self.0.last().and_then(|state| state.item.as_ref())
    }

    /// Notes that a change to `item` begins.
    pub(crate) fn begin(&mut self, item: Option<Item>, from: Instant) {
        let until = None;
        self.0.push(State { item, from, until });
    }

    /// Notes that from `at` on only the newest state is an answer.
    pub(crate) fn end(&mut self, at: Instant) {
        let Some((_, before)) = self.0.split_last_mut() else {
            return;
        };
        for state in before.iter_mut().rev() {
            match state.until {
                Some(until) if until <= at => return,
                _ => state.until = Some(at),
            }
        }
    }

    /// Returns the states that may be the answer to a question asked between `t0` and `t1`.
    pub(crate) fn possible(&self, t0: Instant, t1: Instant) -> Vec<Option<&Item>> {
        let recent = self.0.iter().rev();
        let recent = recent.take_while(|state| state.until.is_none_or(|until| until >= t0));
        recent
            .filter(|state| state.from <= t1)
            .map(|state| state.item.as_ref())
            .collect()
    }
}
