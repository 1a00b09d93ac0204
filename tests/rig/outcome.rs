// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operation answers, and what a whole view looks like.
//!
//! Invariant: a model may leave open what it does not know (a time that the clock set); a real
//! view never does.

use crate::op::{Name, Place};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Length and hash of some bytes.
pub(crate) type Data = (usize, u64);

/// Sums bytes up for comparison.
pub(crate) fn data(bytes: &[u8]) -> Data {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes.len(), hasher.finish())
}

/// One object as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    /// Uid and gid.
    pub(crate) owner: (u32, u32),
    /// Size and link count; not of directories.
    pub(crate) numbers: Option<(u64, u64)>,
    /// Seconds; `None` in a model is a time that the clock set.
    pub(crate) mtime: Option<i64>,
    /// In a model: it does not say how many links there are. A real view always does.
    pub(crate) open_links: bool,
    /// The content of a file, the target of a symbolic link.
    pub(crate) content: Option<Data>,
}

impl Entry {
    /// Tells whether `real` is what this entry of a model says.
    pub(crate) fn describes(&self, real: &Entry) -> bool {
        let mut real = real.clone();
        if self.mtime.is_none() {
            real.mtime = None;
        }
        if self.open_links {
            real.open_links = true;
            let links = self.numbers.map_or(0, |(_, links)| links);
            real.numbers = real.numbers.map(|(size, _)| (size, links));
        }
        *self == real
    }
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The operation did not apply and nothing was asked of the view.
    Nothing,
    Failed(Errno),
    Data(Data),
    Names(Vec<(Name, &'static str)>),
    Stat(Entry),
}

impl Outcome {
    /// Tells whether `real` is what this outcome of a model says.
    pub(crate) fn describes(&self, real: &Outcome) -> bool {
        match (self, real) {
            (Outcome::Stat(model), Outcome::Stat(real)) => model.describes(real),
            _ => self == real,
        }
    }
}

impl From<Result<(), Errno>> for Outcome {
    fn from(result: Result<(), Errno>) -> Self {
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }
}

/// Everything that a view shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) entries: BTreeMap<Place, Entry>,
    /// What is wrong in itself, whatever a model says: a name that is listed twice, a number in a
    /// listing that is not the object's.
    pub(crate) faults: Vec<String>,
}

impl Snapshot {
    /// Lists where `real` is not what this snapshot of a model says.
    pub(crate) fn differences(&self, real: &Snapshot) -> Vec<String> {
        let mut lines = real.faults.clone();
        for (place, model) in &self.entries {
            match real.entries.get(place) {
                None => lines.push(format!("{place} is missing: {model:?}")),
                Some(found) if model.describes(found) => {}
                Some(found) => {
                    lines.push(format!("{place} is {found:?}\n    instead of {model:?}"))
                }
            }
        }
        for (place, found) in &real.entries {
            if !self.entries.contains_key(place) {
                lines.push(format!("{place} should not be there: {found:?}"));
            }
        }
        lines
    }
}
