// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of several objects can be registered together.
//!
//! Invariant: whatever is taken out, all that the rest refers to is valid or in the batch.

use super::reading::Object;
use crate::store::ObjectName;
use std::collections::{BTreeMap, BTreeSet};

/// Objects that each refer to valid ones and to each other alone.
#[derive(Debug, Default)]
pub(super) struct Batch(BTreeMap<ObjectName, Object>);

/// Objects that cannot be registered yet, each with what it waits for.
pub(super) type Waiting = Vec<(ObjectName, BTreeSet<ObjectName>)>;

impl Batch {
    /// Takes those of `objects` that need no others than `valid` ones and each other; tells the
    /// rest.
    pub(super) fn closed(objects: Vec<Object>, valid: &BTreeSet<ObjectName>) -> (Batch, Waiting) {
        let named = objects.into_iter();
        let mut batch = Batch(named.map(|one| (one.info.name.clone(), one)).collect());
        let waiting = batch.close(|name| valid.contains(name));
        (batch, waiting)
    }

    /// Takes out `name`, and whatever refers to it, which then waits for it.
    pub(super) fn without(&mut self, name: &ObjectName) -> Waiting {
        let before: BTreeSet<ObjectName> = self.0.keys().cloned().collect();
        self.0.remove(name);
        // What is not in the batch was valid when it was closed.
        let mut gone = BTreeSet::from([name.clone()]);
        let mut waiting = Waiting::new();
        loop {
            let mut next = self.close(|other| !before.contains(other) && !gone.contains(other));
            if next.is_empty() {
                return waiting;
            }
            gone.extend(next.iter().map(|(name, _)| name.clone()));
            waiting.append(&mut next);
        }
    }

    /// Takes out what refers to anything else than `valid` ones and the batch.
    fn close(&mut self, valid: impl Fn(&ObjectName) -> bool) -> Waiting {
        let mut waiting = Waiting::new();
        loop {
            let missing = self.0.iter().find_map(|(name, object)| {
                let others = object.info.others();
                let missing = others.filter(|other| !self.0.contains_key(*other) && !valid(other));
                let missing: BTreeSet<ObjectName> = missing.cloned().collect();
                (!missing.is_empty()).then(|| (name.clone(), missing))
            });
            let Some((name, missing)) = missing else {
                return waiting;
            };
            self.0.remove(&name);
            waiting.push((name, missing));
        }
    }

    /// Returns the names, in order.
    pub(super) fn names(&self) -> Vec<ObjectName> {
        self.0.keys().cloned().collect()
    }

    /// Returns the objects and all that they refer to.
    pub(super) fn needed(&self) -> BTreeSet<ObjectName> {
        let others = self.0.values().flat_map(|object| object.info.others());
        self.0.keys().chain(others).cloned().collect()
    }

    /// Returns one object.
    pub(super) fn get(&self, name: &ObjectName) -> Option<&Object> {
        self.0.get(name)
    }

    /// Returns `name` and what it needs of the batch.
    pub(super) fn closure(&self, name: &ObjectName) -> Vec<&Object> {
        let mut found = BTreeMap::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            if let Some(object) = self.0.get(next)
                && found.insert(next, object).is_none()
            {
                open.extend(object.info.others());
            }
        }
        found.into_values().collect()
    }

    /// Returns all objects.
    pub(super) fn all(&self) -> Vec<&Object> {
        self.0.values().collect()
    }
}
