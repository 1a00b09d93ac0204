// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the lower store said, kept for a change of the upper database that needs it.
//!
//! A lower store may be a daemon that takes its time; whoever changes the database has it to himself.
//! Invariant: no lower store is asked inside a change. A change that needs to know more is undone, the
//! lower is asked, and the change is made again.

use super::change::{Change, Registration};
use super::copy_up::DERIVATION;
use super::source::Source;
use super::upper::Upper;
use crate::error::{Error, Result};
use crate::store::{ObjectName, Outputs, PathInfo};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Answers of a lower store, to be asked inside a change instead of it.
#[derive(Debug, Default)]
pub struct Asked {
    answers: RefCell<BTreeMap<ObjectName, Option<Registration>>>,
    /// What was asked and has no answer here.
    open: RefCell<BTreeSet<ObjectName>>,
}

impl Asked {
    /// Asks `lower` about `names`, and about what they refer to, as far as `upper` does not know it.
    pub fn ask(
        &self,
        names: impl IntoIterator<Item = ObjectName>,
        upper: &dyn Source,
        lower: &dyn Source,
    ) -> Result<()> {
        let mut open: Vec<ObjectName> = names.into_iter().collect();
        while let Some(name) = open.pop() {
            if self.answers.borrow().contains_key(&name) {
                continue;
            }
            let Some(info) = lower.path_info(&name)? else {
                self.answers.borrow_mut().insert(name, None);
                continue;
            };
            let outputs = match name.as_str().ends_with(DERIVATION) {
                true => lower.outputs(&name)?,
                false => Outputs::new(),
            };
            for other in info.others() {
                if !self.answers.borrow().contains_key(other) && !upper.is_valid(other)? {
                    open.push(other.clone());
                }
            }
            let answer = Registration { info, outputs };
            self.answers.borrow_mut().insert(name, Some(answer));
        }
        Ok(())
    }

    fn answer<T>(
        &self,
        name: &ObjectName,
        read: impl FnOnce(Option<&Registration>) -> T,
    ) -> Result<T> {
        match self.answers.borrow().get(name) {
            Some(answer) => Ok(read(answer.as_ref())),
            None => {
                self.open.borrow_mut().insert(name.clone());
                Err(unasked(name.as_str()))
            }
        }
    }
}

fn unasked(subject: &str) -> Error {
    let why = "the lower store was not asked before";
    Error::environment(format!("change the rows of {subject}"), why).hint("do it again")
}

/// No change asks for more than single objects.
impl Source for Asked {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        self.answer(name, |answer| answer.map(|one| one.info.clone()))
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        self.answer(name, |answer| answer.is_some())
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        self.answer(drv, |answer| {
            answer.map(|one| one.outputs.clone()).unwrap_or_default()
        })
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Err(unasked(name.as_str()))
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Err(unasked(name.as_str()))
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        Err(unasked(hash_part))
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Err(unasked("all objects"))
    }
}

impl Upper {
    /// Makes one change like [`Upper::write`] that has to know what `lower` says. What the change is
    /// given instead answers about single objects; where it cannot yet, the change is undone, `lower` is
    /// asked, and the change is called again.
    pub fn write_with<T>(
        &mut self,
        lower: &dyn Source,
        mut change: impl FnMut(&Change<'_>, &dyn Source) -> Result<T>,
    ) -> Result<T> {
        let asked = Asked::default();
        loop {
            let done = self.write(|within| {
                asked.open.borrow_mut().clear();
                let done = change(within, &asked)?;
                // Whatever the change made of an error: it did not know all.
                match asked.open.borrow().first() {
                    Some(name) => Err(unasked(name.as_str())),
                    None => Ok(done),
                }
            });
            let open = asked.open.take();
            if open.is_empty() || done.is_ok() {
                return done;
            }
            asked.ask(open, self, lower)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::super::upper_tests::object;
    use super::*;
    use crate::store::Sha256;
    use rusqlite::Connection;
    use std::cell::Cell;

    /// A lower store in which every object of `chain` refers to the next one, and which is asked only
    /// while nobody has the upper database to himself.
    #[derive(Debug)]
    struct Watched {
        chain: Vec<ObjectName>,
        database: Connection,
        questions: Cell<usize>,
    }

    impl Watched {
        fn seen(&self) {
            self.questions.set(self.questions.get() + 1);
            let free = self.database.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
            assert_eq!(free, Ok(()), "it is asked inside a change");
        }
    }

    impl Source for Watched {
        fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
            self.seen();
            let Some(at) = self.chain.iter().position(|one| one == name) else {
                return Ok(None);
            };
            let mut info = PathInfo::new(name.clone(), Sha256::of(b"x"), 7);
            info.references = self.chain.get(at + 1).cloned().into_iter().collect();
            Ok(Some(info))
        }

        fn is_valid(&self, name: &ObjectName) -> Result<bool> {
            Ok(self.path_info(name)?.is_some())
        }

        fn outputs(&self, _: &ObjectName) -> Result<Outputs> {
            self.seen();
            Ok(Outputs::new())
        }

        fn referrers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
            unreachable!("no change asks this")
        }

        fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
            unreachable!("no change asks this")
        }

        fn with_hash_part(&self, _: &str) -> Result<Option<ObjectName>> {
            unreachable!("no change asks this")
        }

        fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
            unreachable!("no change asks this")
        }
    }

    #[test]
    fn the_lower_is_asked_outside_of_changes() {
        let scratch = Scratch::new();
        let mut upper = Upper::open(&scratch.layout()).unwrap();
        let chain: Vec<ObjectName> = (10..40).map(|number| object(number).info.name).collect();
        let database = scratch.database();
        database.busy_timeout(std::time::Duration::ZERO).unwrap();
        let lower = Watched {
            chain: chain.clone(),
            database,
            questions: Cell::new(0),
        };
        let mut made = object(1);
        made.info.references.insert(chain[0].clone());
        let mut calls = 0;
        let done = upper.write_with(&lower, |change, lower| {
            calls += 1;
            change.register_merging(std::slice::from_ref(&made), lower)
        });
        assert_eq!(done, Ok(()));
        assert_eq!(upper.all_valid().unwrap().len(), 31);
        assert_eq!(lower.questions.get(), 31, "each object once");
        assert!(calls <= 3, "{calls} calls for a chain");
        // An error that a change swallows is no answer.
        let mut calls = 0;
        let found = upper.write_with(&lower, |_, lower| {
            calls += 1;
            Ok(lower.is_valid(&object(2).info.name).unwrap_or(true))
        });
        assert_eq!((found, calls), (Ok(false), 2));
    }
}
