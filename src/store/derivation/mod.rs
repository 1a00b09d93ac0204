// SPDX-License-Identifier: MIT OR Apache-2.0
//! Derivations: the text of a `.drv`, and which of its outputs have a known path.
//!
//! Decides what is well-formed; whether the paths are the right ones for the inputs is for who builds.
//! Invariant: what was read, printed again, is the same bytes, so sets are in order and strings have
//! one spelling.

mod aterm;
mod read;
mod write;

pub use aterm::Malformed;

use super::content_address::{ContentAddress, Method};
use super::dir::StoreDir;
use super::hash::{Algorithm, Hash};
use super::name::ObjectName;
use super::path_info::Outputs;
use std::collections::{BTreeMap, BTreeSet};

/// What the names of derivations end with.
pub const EXTENSION: &str = ".drv";

/// A derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// Which syntax its text has.
    pub syntax: Syntax,
    /// What it makes, by output name.
    pub outputs: BTreeMap<String, Output>,
    /// The derivations that it needs outputs of.
    pub input_derivations: BTreeMap<ObjectName, Wanted>,
    /// The other objects that it needs.
    pub input_sources: BTreeSet<ObjectName>,
    /// The kind of machine that builds it.
    pub system: Vec<u8>,
    /// The program that builds it.
    pub builder: Vec<u8>,
    /// The arguments of the builder.
    pub arguments: Vec<Vec<u8>>,
    /// The environment of the builder.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The syntax of a derivation's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `Derive(...)`.
    Plain,
    /// `DrvWithVersion("xp-dyn-drv",...)`: inputs may be outputs of what an input makes.
    Dynamic,
}

/// An output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Its path follows from the inputs.
    InputAddressed(ObjectName),
    /// Its path follows from its content, which is known before it is built.
    Fixed {
        /// Its path.
        path: ObjectName,
        /// The method and algorithm: `r:sha256`.
        algorithm: String,
        /// The digits of the hash.
        digits: String,
    },
    /// Its path will follow from its content, by this method and algorithm.
    Floating(String),
    /// Built anew each time; its path will follow from its content, by this method and algorithm.
    Impure(String),
    /// Its path is known when the inputs' are.
    Deferred,
}

/// The outputs that are wanted of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Outputs of the derivation itself.
    pub outputs: BTreeSet<String>,
    /// Outputs that are derivations themselves, of which again outputs are wanted.
    pub dynamic: BTreeMap<String, Wanted>,
}

impl Derivation {
    /// Parses the text of a derivation whose paths are in `dir`.
    pub fn parse(dir: &StoreDir, text: &[u8]) -> Result<Derivation, Malformed> {
        read::derivation(dir, text)
    }

    /// Returns the text.
    pub fn to_bytes(&self, dir: &StoreDir) -> Vec<u8> {
        write::derivation(dir, self)
    }

    /// Returns the outputs whose paths are known before anything is built.
    pub fn known_outputs(&self) -> Outputs {
        let known =
            |(name, output): (&String, &Output)| Some((name.clone(), output.path()?.clone()));
        self.outputs.iter().filter_map(known).collect()
    }
}

impl Output {
    /// Returns its path, if that is known.
    pub fn path(&self) -> Option<&ObjectName> {
        match self {
            Output::InputAddressed(path) | Output::Fixed { path, .. } => Some(path),
            Output::Floating(_) | Output::Impure(_) | Output::Deferred => None,
        }
    }

    /// Returns the content address of a fixed output; `None` for other outputs, and for algorithms
    /// that are not known.
    pub fn address(&self) -> Option<ContentAddress> {
        let Output::Fixed {
            algorithm, digits, ..
        } = self
        else {
            return None;
        };
        let (method, word) = match algorithm.split_once(':') {
            None => (Method::Flat, algorithm.as_str()),
            Some(("r", word)) => (Method::Nar, word),
            Some(("git", word)) => (Method::Git, word),
            Some(("text", word)) => (Method::Text, word),
            Some(_) => return None,
        };
        let hash = Hash::parse_digits(Algorithm::parse(word)?, digits)?;
        Some(ContentAddress { method, hash })
    }
}

/// Whether `name` is called like a derivation.
pub fn is_derivation(name: &ObjectName) -> bool {
    name.name_part().ends_with(EXTENSION)
}

#[cfg(test)]
mod tests;
