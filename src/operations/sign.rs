// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of the lower store brought into the upper database, and signatures added to rows.
//!
//! Invariant: all that was asked for is done, or nothing of it; the lower store keeps what it has.

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::metadata::Source;
use crate::store::ObjectName;
use crate::store::signature::SecretKey;
use std::collections::BTreeSet;

/// Copies the metadata of `names`, and of all that they need, from the lower store; returns how many
/// objects that were.
///
/// # Errors
/// An object that is valid nowhere; nothing is copied then.
pub fn copy_up(store: &mut Store, names: &BTreeSet<ObjectName>) -> Result<usize> {
    for name in names {
        store.keep(name)?;
        if !store.metadata().is_valid(name)? {
            return Err(not_valid(store, "copy the metadata of", name));
        }
    }
    store.write(|change, lower| match lower {
        Some(lower) => change.copy_up(names, lower),
        None => Ok(0),
    })
}

/// Adds the signature of `key` to each of `names`; what only the lower store has is copied up.
pub fn sign(store: &mut Store, names: &BTreeSet<ObjectName>, key: &SecretKey) -> Result<()> {
    let dir = store.dir().clone();
    let mut signatures = Vec::new();
    for name in names {
        store.keep(name)?;
        let Some(info) = store.metadata().path_info(name)? else {
            return Err(not_valid(store, "sign", name));
        };
        let Some(signature) = key.sign_info(&dir, &info) else {
            let what = format!("sign {}", dir.store_path(name).display());
            let why = "the size of its archive is not known";
            return Err(Error::new(Kind::Corrupt, what, why));
        };
        signatures.push((name, signature));
    }
    store.write(|change, lower| {
        if let Some(lower) = lower {
            change.copy_up(names, lower)?;
        }
        for (name, signature) in &signatures {
            change.add_signatures(name, &[signature.clone()].into())?;
        }
        Ok(())
    })
}

fn not_valid(store: &Store, verb: &str, name: &ObjectName) -> Error {
    let what = format!("{verb} {}", store.dir().store_path(name).display());
    Error::new(Kind::Negative, what, "it is not valid")
}
