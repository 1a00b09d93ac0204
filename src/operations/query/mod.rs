// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about the objects of a store, answered from its metadata.
//!
//! Decides what is followed and in which order it is told; where the metadata is, `metadata` knows.
//! Invariant: asking changes nothing, each object is asked about once, and however deep a closure is,
//! the stack stays as it is.
//!
//! * `closure`: what is reached from an object, in either direction, and the order of it.
//! * `place`: which object a path is in.
//! * `answer`, `tree`, `graph`, `table`: the texts that are printed.
//! * `text`: a derivation of which no metadata tells the outputs.
//! * `whole`: answers that others did not change meanwhile.

mod answer;
mod closure;
mod graph;
mod place;
mod table;
mod text;
mod tree;
mod whole;

pub use answer::Question;
pub use closure::Follow;
pub use place::Place;
pub use table::Columns;
pub use text::read_text;
pub use whole::whole;

use crate::error::{Error, Kind, Result};
use crate::metadata::Source;
use crate::store::derivation::{Derivation, is_derivation};
use crate::store::{HASH_PART_BYTES, ObjectName, Outputs, PathInfo, StoreDir, base32};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// Returns the content of the file that is the object; it is asked for derivations alone.
pub type ReadText<'a> = dyn Fn(&ObjectName) -> Result<Vec<u8>> + 'a;

/// Questions about one store, with what was answered before.
pub struct Query<'a> {
    dir: &'a StoreDir,
    source: &'a dyn Source,
    read: &'a ReadText<'a>,
    infos: BTreeMap<ObjectName, Option<Rc<PathInfo>>>,
    outputs: BTreeMap<ObjectName, Outputs>,
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("dir", &self.dir)
            .field("source", &self.source)
            .field("known", &self.infos.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Query<'a> {
    /// Begins to ask `source`, whose paths are in `dir`. Derivations of which the metadata has no
    /// outputs are read by `read`.
    pub fn new(dir: &'a StoreDir, source: &'a dyn Source, read: &'a ReadText<'a>) -> Query<'a> {
        Query {
            dir,
            source,
            read,
            infos: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// Returns what is known of `name`; `None` if it is not valid.
    pub fn find(&mut self, name: &ObjectName) -> Result<Option<Rc<PathInfo>>> {
        if let Some(known) = self.infos.get(name) {
            return Ok(known.clone());
        }
        let found = self.source.path_info(name)?.map(Rc::new);
        self.infos.insert(name.clone(), found.clone());
        Ok(found)
    }

    /// Returns what is known of `name`.
    ///
    /// # Errors
    /// It is not valid.
    pub fn info(&mut self, name: &ObjectName) -> Result<Rc<PathInfo>> {
        self.find(name)?.ok_or_else(|| self.not_valid(name))
    }

    /// Returns every valid object.
    pub fn all(&self) -> Result<BTreeSet<ObjectName>> {
        self.source.all_valid()
    }

    /// Returns what the objects refer to, themselves included where they do.
    pub fn references(&mut self, names: &BTreeSet<ObjectName>) -> Result<BTreeSet<ObjectName>> {
        let mut found = BTreeSet::new();
        for name in names {
            found.extend(self.info(name)?.references.iter().cloned());
        }
        Ok(found)
    }

    /// Returns what refers to the objects, themselves included where they do.
    pub fn referrers(&mut self, names: &BTreeSet<ObjectName>) -> Result<BTreeSet<ObjectName>> {
        let mut found = BTreeSet::new();
        for name in names {
            self.info(name)?;
            found.extend(self.source.referrers(name)?);
        }
        Ok(found)
    }

    /// Returns the valid derivations of which `name`, valid or not, is an output.
    pub fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.source.valid_derivers(name)
    }

    /// Returns the outputs with known paths of the valid derivation `drv`: those that the metadata
    /// has, or else those that its text tells.
    pub fn outputs(&mut self, drv: &ObjectName) -> Result<Outputs> {
        if let Some(known) = self.outputs.get(drv) {
            return Ok(known.clone());
        }
        self.info(drv)?;
        let mut outputs = self.source.outputs(drv)?;
        if outputs.is_empty() && is_derivation(drv) {
            outputs = self.read_outputs(drv)?;
        }
        self.outputs.insert(drv.clone(), outputs.clone());
        Ok(outputs)
    }

    /// Returns what `nix-store -q --outputs` tells for `name`: the outputs of a derivation, and of
    /// anything else the object itself.
    pub fn output_paths(&mut self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        if !is_derivation(name) {
            self.info(name)?;
            return Ok([name.clone()].into());
        }
        Ok(self.outputs(name)?.into_values().collect())
    }

    /// Returns the valid object with this hash part.
    ///
    /// # Errors
    /// It is no hash part, or no valid object has it.
    pub fn with_hash_part(&self, hash_part: &str) -> Result<ObjectName> {
        let digits = hash_part.bytes().all(base32::is_digit);
        let what = || format!("hash part {}", hash_part.escape_debug());
        if hash_part.len() != HASH_PART_BYTES || !digits {
            let why = format!("it has not {HASH_PART_BYTES} digits of a store hash");
            return Err(Error::usage(what(), why));
        }
        let found = self.source.with_hash_part(hash_part)?;
        found.ok_or_else(|| Error::new(Kind::Negative, what(), "no valid object has it"))
    }

    fn read_outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        let text = (self.read)(drv)?;
        let derivation = Derivation::parse(self.dir, &text).map_err(|why| {
            let what = format!("read derivation {}", self.shown(drv));
            Error::new(Kind::Corrupt, what, why)
                .hint("it is damaged: overstore verify --check-contents tells more")
        })?;
        Ok(derivation.known_outputs())
    }

    fn not_valid(&self, name: &ObjectName) -> Error {
        let what = format!("path {}", self.shown(name));
        Error::new(Kind::Negative, what, "it is not valid")
    }

    fn shown(&self, name: &ObjectName) -> String {
        self.dir.store_path(name).display().to_string()
    }
}

#[cfg(test)]
mod tests;
