// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is reached from an object, in either direction, and the order in which it is told.
//!
//! Invariant: an object comes after all that it refers to, and objects that do not depend on each
//! other come in the order of their names as far as that allows; so says Nix, too.

use super::Query;
use crate::error::{Error, Kind, Result};
use crate::roots::Root;
use crate::store::ObjectName;
use crate::store::derivation::is_derivation;
use std::collections::{BTreeMap, BTreeSet};

/// What is followed besides references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follow {
    /// Between a derivation and its outputs: from requisites on to the valid outputs of
    /// derivations, from referrers on to the derivations that made them.
    pub outputs: bool,
    /// Between an object and its deriver: from requisites on to valid derivers, from referrers on
    /// to the valid outputs of derivations.
    pub derivers: bool,
}

/// How far the search below an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Somewhere below it.
    Open,
    /// All below it was told.
    Done,
}

impl Query<'_> {
    /// Returns `starts` and all that they need.
    pub fn requisites(
        &mut self,
        starts: &BTreeSet<ObjectName>,
        follow: Follow,
    ) -> Result<BTreeSet<ObjectName>> {
        self.reach(starts, |query, name| query.needed_by(name, follow))
    }

    /// Returns `starts` and all that needs them.
    pub fn referrers_closure(
        &mut self,
        starts: &BTreeSet<ObjectName>,
        follow: Follow,
    ) -> Result<BTreeSet<ObjectName>> {
        self.reach(starts, |query, name| query.in_need_of(name, follow))
    }

    /// Returns the size of all that `name` needs, itself included, in bytes.
    pub fn closure_size(&mut self, name: &ObjectName) -> Result<u64> {
        let mut size = 0u64;
        for name in self.requisites(&[name.clone()].into(), Follow::default())? {
            size = size.saturating_add(self.info(&name)?.nar_size);
        }
        Ok(size)
    }

    /// Returns those of `roots` that keep `names` alive, in order.
    pub fn keeping(
        &mut self,
        names: &BTreeSet<ObjectName>,
        roots: &BTreeSet<Root>,
        follow: Follow,
    ) -> Result<BTreeSet<Root>> {
        let closure = self.referrers_closure(names, follow)?;
        let keeping = roots.iter().filter(|root| closure.contains(&root.object));
        Ok(keeping.cloned().collect())
    }

    /// Returns `names` in order: what is referred to before what refers to it.
    ///
    /// # Errors
    /// Objects that refer to each other in a circle.
    pub fn sorted(&mut self, names: &BTreeSet<ObjectName>) -> Result<Vec<ObjectName>> {
        let mut marks: BTreeMap<ObjectName, Mark> = BTreeMap::new();
        let mut sorted = Vec::with_capacity(names.len());
        for start in names {
            // What is below each open object, the next one last.
            let mut open = vec![(start.clone(), None::<Vec<ObjectName>>)];
            while let Some((name, below)) = open.last_mut() {
                let below = match below {
                    Some(below) => below,
                    None if marks.contains_key(name) => {
                        open.pop();
                        continue;
                    }
                    None => {
                        marks.insert(name.clone(), Mark::Open);
                        below.insert(self.below(name, names)?)
                    }
                };
                match below.pop() {
                    Some(next) => match marks.get(&next) {
                        Some(Mark::Done) => {}
                        Some(Mark::Open) => return Err(self.circle(name, &next)),
                        None => open.push((next, None)),
                    },
                    None => {
                        marks.insert(name.clone(), Mark::Done);
                        sorted.push(name.clone());
                        open.pop();
                    }
                }
            }
        }
        Ok(sorted)
    }

    /// The references of `name` to others of `names`, the first one last.
    fn below(
        &mut self,
        name: &ObjectName,
        names: &BTreeSet<ObjectName>,
    ) -> Result<Vec<ObjectName>> {
        let info = self.info(name)?;
        let others = info.others().filter(|other| names.contains(other));
        let mut below: Vec<ObjectName> = others.cloned().collect();
        below.reverse();
        Ok(below)
    }

    fn reach(
        &mut self,
        starts: &BTreeSet<ObjectName>,
        mut next: impl FnMut(&mut Self, &ObjectName) -> Result<BTreeSet<ObjectName>>,
    ) -> Result<BTreeSet<ObjectName>> {
        let mut reached = starts.clone();
        let mut waiting: Vec<ObjectName> = starts.iter().cloned().collect();
        while let Some(name) = waiting.pop() {
            for other in next(self, &name)? {
                if reached.insert(other.clone()) {
                    waiting.push(other);
                }
            }
        }
        Ok(reached)
    }

    fn needed_by(&mut self, name: &ObjectName, follow: Follow) -> Result<BTreeSet<ObjectName>> {
        let info = self.info(name)?;
        let mut needed = info.references.clone();
        if follow.outputs && is_derivation(name) {
            needed.extend(self.valid_outputs(name)?);
        }
        if follow.derivers
            && let Some(deriver) = &info.deriver
            && self.find(deriver)?.is_some()
        {
            needed.insert(deriver.clone());
        }
        Ok(needed)
    }

    fn in_need_of(&mut self, name: &ObjectName, follow: Follow) -> Result<BTreeSet<ObjectName>> {
        self.info(name)?;
        let mut found = self.source.referrers(name)?;
        if follow.outputs {
            found.extend(self.valid_derivers(name)?);
        }
        if follow.derivers && is_derivation(name) {
            found.extend(self.valid_outputs(name)?);
        }
        Ok(found)
    }

    fn valid_outputs(&mut self, drv: &ObjectName) -> Result<Vec<ObjectName>> {
        let mut valid = Vec::new();
        for output in self.outputs(drv)?.into_values() {
            if self.find(&output)?.is_some() {
                valid.push(output);
            }
        }
        Ok(valid)
    }

    fn circle(&self, one: &ObjectName, other: &ObjectName) -> Error {
        let what = format!("sort by references {}", self.shown(one));
        let why = format!("it and {} need each other", self.shown(other));
        Error::new(Kind::Corrupt, what, why).hint("one of them must be deleted, or registered anew")
    }
}
