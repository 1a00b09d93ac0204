// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be asked of the metadata of one store, wherever it is.
//!
//! Invariant: asking changes nothing, in no store; and what could not be read is an error, never an
//! absent row.

use super::realisation::Realisation;
use crate::error::Result;
use crate::store::{ObjectName, Outputs, PathInfo};
use std::collections::BTreeSet;
use std::fmt;

/// The metadata of one store.
pub trait Source: fmt::Debug {
    /// Returns what is known of `name`; `None` if it is not valid.
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>>;

    /// Whether `name` is valid.
    fn is_valid(&self, name: &ObjectName) -> Result<bool>;

    /// Returns the valid objects that refer to `name`, itself included if it does.
    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>>;

    /// Returns the valid derivations of which `name` is an output.
    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>>;

    /// Returns the outputs with known paths of the valid derivation `drv`; the outputs need not be
    /// valid. Empty for what is no derivation, or not valid.
    fn outputs(&self, drv: &ObjectName) -> Result<Outputs>;

    /// Returns the valid object whose hash part is `hash_part` (32 characters).
    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>>;

    /// Returns every valid object.
    fn all_valid(&self) -> Result<BTreeSet<ObjectName>>;

    /// Checks, after the last question, that all answers were whole: a database may have been read
    /// in a way that only holds if nobody began to write it meanwhile. A source whose answers are
    /// whole each by itself has nothing to check.
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// Returns what `output` of a content-addressed derivation turned out to be, where the store
    /// keeps that. `derivation` is spelled like in the tables: `sha256:HEX`, its hash modulo inputs
    /// (Nix up to 2.34), or its name in the store (later ones).
    fn realisation(&self, derivation: &str, output: &str) -> Result<Option<Realisation>> {
        let (_, _) = (derivation, output);
        Ok(None)
    }
}
