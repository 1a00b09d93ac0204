// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a store knows of one valid object: its path info.
//!
//! Invariant: names are checked, and the hash is that of the object's NAR; whether the object is
//! there is not known here.

use super::content_address::ContentAddress;
use super::hash::Sha256;
use super::name::ObjectName;
use std::collections::{BTreeMap, BTreeSet};

/// The path info of one store object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The object.
    pub name: ObjectName,
    /// The digest of its NAR.
    pub nar_hash: Sha256,
    /// The size of its NAR in bytes; 0 where nobody knows.
    pub nar_size: u64,
    /// What it refers to, itself included if it does.
    pub references: BTreeSet<ObjectName>,
    /// The derivation that made it, where known; it need not be valid.
    pub deriver: Option<ObjectName>,
    /// When it was registered, in seconds since 1970; 0 asks for now.
    pub registration_time: i64,
    /// Whether it was built here.
    pub ultimate: bool,
    /// Signatures as Nix spells them: `KEYNAME:BASE64`.
    pub signatures: BTreeSet<String>,
    /// How its content fixes its name, if it does.
    pub ca: Option<ContentAddress>,
}

/// The outputs of a derivation whose paths are known: output name to object.
pub type Outputs = BTreeMap<String, ObjectName>;

impl PathInfo {
    /// Returns the info of an object of which only the NAR is known.
    pub fn new(name: ObjectName, nar_hash: Sha256, nar_size: u64) -> PathInfo {
        PathInfo {
            name,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            deriver: None,
            registration_time: 0,
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: None,
        }
    }

    /// Returns the references to other objects.
    pub fn others(&self) -> impl Iterator<Item = &ObjectName> {
        self.references.iter().filter(|other| **other != self.name)
    }
}
