// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of the lower store brought into the upper database, so that rows of the upper can refer to
//! them.
//!
//! Invariant: a row comes with its whole closure, or not at all; and it is what the lower said.

use super::change::{Change, Registration, missing_reference};
use super::order;
use super::source::Source;
use crate::error::{Error, Kind, Result};
use crate::store::ObjectName;
use std::collections::BTreeMap;

/// What the name of a derivation ends with.
pub(super) const DERIVATION: &str = ".drv";

impl Change<'_> {
    /// Copies the rows of `names` and of all that they refer to from the lower, as far as the upper
    /// has none; returns how many were copied.
    ///
    /// # Errors
    /// An object that is valid in neither, be it one of `names` or a reference; nothing is copied
    /// then.
    pub fn copy_up<'n>(
        &self,
        names: impl IntoIterator<Item = &'n ObjectName>,
        lower: &dyn Source,
    ) -> Result<usize> {
        let missing = self.missing(names, lower)?;
        let graph: order::Graph<'_> = missing
            .iter()
            .map(|(name, found)| (name, found.info.others().collect()))
            .collect();
        let ordered = order::references_first(&graph).map_err(|(from, to)| self.cycle(from, to))?;
        let ordered: Vec<_> = ordered
            .into_iter()
            .filter_map(|name| missing.get(name))
            .collect();
        for copied in &ordered {
            self.register(std::slice::from_ref(*copied))?;
        }
        Ok(ordered.len())
    }

    /// Registers a batch like [`Change::register`], after the rows that the lower has of these
    /// objects and of their references were copied up: what the lower knows of an object is merged
    /// and not hidden, and references may be to objects of the lower alone.
    pub fn register_merging(&self, batch: &[Registration], lower: &dyn Source) -> Result<()> {
        let new: BTreeMap<&ObjectName, ()> = batch.iter().map(|one| (&one.info.name, ())).collect();
        let others = batch.iter().flat_map(|one| one.info.others());
        let others = others.filter(|other| !new.contains_key(other));
        let mut wanted = Vec::new();
        for name in new.keys().copied().chain(others) {
            if !self.rows.is_valid(name)? && lower.is_valid(name)? {
                wanted.push(name);
            }
        }
        self.copy_up(wanted, lower)?;
        self.register(batch)
    }

    /// Returns what the lower has of the closure of `names` and the upper has not.
    fn missing<'n>(
        &self,
        names: impl IntoIterator<Item = &'n ObjectName>,
        lower: &dyn Source,
    ) -> Result<BTreeMap<ObjectName, Registration>> {
        let mut found: BTreeMap<ObjectName, Registration> = BTreeMap::new();
        // Each with the object that refers to it.
        let mut open: Vec<(ObjectName, Option<ObjectName>)> =
            names.into_iter().map(|name| (name.clone(), None)).collect();
        while let Some((name, referrer)) = open.pop() {
            if found.contains_key(&name) || self.rows.is_valid(&name)? {
                continue;
            }
            let Some(info) = lower.path_info(&name)? else {
                return Err(self.nowhere(&name, referrer.as_ref()));
            };
            let outputs = match name.as_str().ends_with(DERIVATION) {
                true => lower.outputs(&name)?,
                false => BTreeMap::new(),
            };
            for other in info.others() {
                if !found.contains_key(other) {
                    open.push((other.clone(), Some(name.clone())));
                }
            }
            found.insert(name, Registration { info, outputs });
        }
        Ok(found)
    }

    fn nowhere(&self, name: &ObjectName, referrer: Option<&ObjectName>) -> Error {
        let path = self.rows.names.path(name);
        match referrer {
            Some(referrer) => missing_reference(&self.rows.names.path(referrer), &path),
            None => {
                let why = "it is valid neither in the upper nor in the lower store";
                Error::new(Kind::Negative, format!("copy the metadata of {path}"), why)
            }
        }
    }
}
