// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects taken from an export stream.
//!
//! Invariant: what of a stream came whole is in the store, also if the rest of it is damaged.

use super::add::{Made, Put, Watched, put_made};
use super::{Store, Trust};
use crate::error::Result;
use crate::nar::{ExportReader, Restorer};
use crate::store::{ObjectName, PathInfo};
use std::io::Read;

/// Puts the objects of `stream` into the store, in its order, and tells `done` of each. What they
/// refer to must be valid, in the upper or the lower store. The stream has no signatures: `trust` tells them,
/// and whether they are asked for.
pub fn import(
    store: &mut Store,
    stream: impl Read,
    trust: &Trust,
    mut done: impl FnMut(&Store, &ObjectName, Put) -> Result<()>,
) -> Result<()> {
    let mut reader = ExportReader::new(stream, "export stream", store.dir().clone());
    loop {
        // An archive comes before the name of its object.
        let made = Made::begin(store)?;
        let mut restorer = Restorer::new(made.place()?);
        let mut watched = Watched::new(&mut restorer, store.interrupt(), "import objects");
        let exported = match reader.next_object(&mut watched) {
            Ok(Some(exported)) => exported,
            Ok(None) => return Ok(()),
            Err(error) => return Err(restorer.undo(error)),
        };
        restorer.finish()?;
        let mut info = PathInfo::new(exported.name, exported.nar_hash, exported.nar_size);
        info.references = exported.references;
        info.deriver = exported.deriver;
        trust.sign(store.dir(), &mut info)?;
        let put = put_made(store, &info, &made)?;
        done(store, &info.name, put)?;
    }
}
