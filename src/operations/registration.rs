// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is registered, as Nix's text for it: written out, and taken in for objects that are in place.
//!
//! Invariant: nothing is registered that is not there; and what the text cannot say of an object
//! that has not changed (content address, signatures, that it was built here) stays as it was.

use super::Store;
use super::add::{Merged, keep, lock};
use super::opened::store_dir;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::{Source, open_union};
use crate::nar::{Links, canonicalise, hash_tree};
use crate::store::registration::{Form, Parser, Registration};
use crate::store::{ObjectName, PathInfo, StoreDir};
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};

/// Longest line, in bytes: what the system takes as a path, and a line break.
const LINE_BYTES: u64 = 4097;

/// What is done with what the text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether objects that are valid already are registered anew.
    pub again: bool,
    /// Whether the objects are made canonical first.
    pub canonicalise: bool,
}

/// Writes what is registered of `names`, in their order, or of everything in the upper database:
/// all of it, or nothing.
pub fn dump(layout: &Layout, names: Option<&[ObjectName]>, mut out: impl Write) -> Result<()> {
    let dir = store_dir(layout)?;
    let metadata = open_union(layout)?;
    let everything: Vec<ObjectName> = match (names, metadata.upper()) {
        (None, Some(upper)) => upper.all_valid()?.into_iter().collect(),
        _ => Vec::new(),
    };
    // All of it before the first byte is written: a file with a part of a dump looks like a whole one.
    // And who reads what is written may take his time, while nothing of the database is held.
    let mut text = Vec::new();
    for name in names.unwrap_or(&everything) {
        let Some(info) = metadata.path_info(name)? else {
            return Err(not_valid(&dir, name));
        };
        Registration::of(&info, Form::WithHashes).write(&dir, &mut text);
    }
    metadata.finish()?;
    drop(metadata);
    out.write_all(&text)
        .and_then(|()| out.flush())
        .map_err(|why| Error::environment("write registrations", why))
}

/// Reads what is to be registered.
pub fn read(dir: &StoreDir, form: Form, mut input: impl BufRead) -> Result<Vec<Registration>> {
    let what = "read registrations";
    let mut parser = Parser::new(dir, form);
    let mut registrations = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = Read::by_ref(&mut input).take(LINE_BYTES);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|why| Error::environment(what, why))?;
        if line.is_empty() {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let taken = parser.line(&line).map_err(|why| malformed(&why))?;
        registrations.extend(taken);
    }
    parser.finish().map_err(|why| malformed(&why))?;
    Ok(registrations)
}

/// Registers objects that are in place, all at once; returns how many.
///
/// # Errors
/// An object that is not there, and references that are valid nowhere; nothing is registered then.
pub fn register(store: &mut Store, registrations: Vec<Registration>, wish: Wish) -> Result<usize> {
    // The last one counts, where there are several of one object.
    let mut wanted: BTreeMap<ObjectName, Registration> = BTreeMap::new();
    for registration in registrations {
        wanted.insert(registration.name.clone(), registration);
    }
    for registration in wanted.values() {
        keep(store, &registration.name, &registration.references)?;
    }
    let _locks = match wish.canonicalise {
        true => Some(lock(store, wanted.keys())?),
        false => None,
    };
    let merged = Merged::of(store)?;
    let mut infos = Vec::new();
    for registration in wanted.into_values() {
        store.interrupt().check("register objects")?;
        let known = store.metadata().path_info(&registration.name)?;
        if known.is_some() && !wish.again {
            continue;
        }
        infos.push(info(store, &merged, registration, known, wish)?);
    }
    let count = infos.len();
    store.register(infos)?;
    Ok(count)
}

/// Returns what is registered of one object.
fn info(
    store: &Store,
    merged: &Merged,
    registration: Registration,
    known: Option<PathInfo>,
    wish: Wish,
) -> Result<PathInfo> {
    let place = merged.place(&registration.name)?;
    if !merged.has(&registration.name)? {
        let what = format!(
            "register {}",
            store.dir().store_path(&registration.name).display()
        );
        let why = format!("there is no {}", place.path().display());
        return Err(Error::new(Kind::Negative, what, why).hint("put it there first"));
    }
    if wish.canonicalise {
        canonicalise(&place, Links::Allow)?;
    }
    let (hash, size) = match registration.nar {
        Some(said) => said,
        None => hash_tree(&place)?,
    };
    let mut info = PathInfo::new(registration.name, hash, size);
    info.references = registration.references;
    info.deriver = registration.deriver;
    if let Some(known) = known
        && known.nar_hash == info.nar_hash
        && known.references == info.references
    {
        info.ca = known.ca;
        info.signatures = known.signatures;
        info.ultimate = known.ultimate;
    }
    Ok(info)
}

fn not_valid(dir: &StoreDir, name: &ObjectName) -> Error {
    let what = format!("path {}", dir.store_path(name).display());
    Error::new(Kind::Negative, what, "it is not valid")
}

fn malformed(why: &crate::store::derivation::Malformed) -> Error {
    let what = format!("read registrations, line {}", why.at);
    Error::new(Kind::Corrupt, what, why.why)
        .hint("with hashes (dump-db, --hash-given) or without: the form must be told")
}
