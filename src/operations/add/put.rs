// SPDX-License-Identifier: MIT OR Apache-2.0
//! One object put in place, whose info is known.
//!
//! Invariant: nothing of the lower store is touched. What stands in the way without a row goes; what
//! is valid stays as it is.

use super::content;
use super::watched::Watched;
use crate::error::{Error, Kind, Result};
use crate::metadata::Source;
use crate::nar::{Input, NarHasher, Place, Restorer, Tee, read, remove_tree};
use crate::operations::Store;
use crate::operations::gc::removal::Sides;
use crate::roots::{Interrupt, PathLocks};
use crate::store::{ObjectName, PathInfo, Sha256};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was valid already; nothing was written but, where only the lower had it, its metadata.
    Present,
    /// It was written and registered.
    Added,
}

/// Puts the object `info` into the store: its archive is read from `archive` and must be what `info`
/// says. Of a valid object nothing is read. Signatures are for the caller to judge.
///
/// # Errors
/// An archive or a content address that is not that of `info`, and references that are valid nowhere;
/// nothing is left in place then.
pub fn put(store: &mut Store, info: &PathInfo, archive: &mut dyn Read) -> Result<Put> {
    put_by(store, info, |made| made.restore(info, archive))
}

/// Puts the object `info` into the store, which `fill` makes, complete and checked.
pub(super) fn put_by(
    store: &mut Store,
    info: &PathInfo,
    fill: impl FnOnce(&mut Making<'_>) -> Result<()>,
) -> Result<Put> {
    put_with(store, info, |store, place| {
        let interrupt = store.interrupt().clone();
        let mut making = Making::new(*place, &interrupt);
        let filled = fill(&mut making);
        match filled.and_then(|()| store.register(vec![info.clone()])) {
            Ok(()) => making.restorer.finish(),
            Err(error) => Err(making.restorer.undo(error)),
        }
    })
}

/// Has `make` make and register the object `info` at a free place, under its lock; unless it is
/// valid. `make` removes what it did not register.
pub(super) fn put_with(
    store: &mut Store,
    info: &PathInfo,
    make: impl FnOnce(&mut Store, &Place<'_>) -> Result<()>,
) -> Result<Put> {
    keep(store, &info.name, &info.references)?;
    if settle(store, &info.name)? {
        return Ok(Put::Present);
    }
    let _locks = lock(store, [&info.name])?;
    if settle_locked(store, &info.name)? {
        return Ok(Put::Present);
    }
    let merged = Merged::of(store)?;
    let place = merged.place(&info.name)?;
    clear(store, &place, &info.name)?;
    make(store, &place).map(|()| Put::Added)
}

/// An object that is being made.
pub(super) struct Making<'a> {
    pub(super) restorer: Restorer<'a>,
    place: Place<'a>,
    pub(super) interrupt: &'a Interrupt,
}

impl<'a> Making<'a> {
    /// Begins at a free place.
    pub(super) fn new(place: Place<'a>, interrupt: &'a Interrupt) -> Making<'a> {
        Making {
            restorer: Restorer::new(place),
            place,
            interrupt,
        }
    }

    /// Makes it of an archive, which must be that of `info`.
    pub(super) fn restore(&mut self, info: &PathInfo, archive: &mut dyn Read) -> Result<()> {
        let path = self.place.path();
        let what = format!("add {}", path.display());
        let subject = format!("the archive of {}", info.name);
        let mut input = Input::new(Tee::new(archive, NarHasher::new()), subject);
        let mut watched = Watched::new(&mut self.restorer, self.interrupt, &what);
        read(&mut input, &mut watched)?;
        let (_, hasher) = input
            .into_inner()
            .finish()
            .map_err(|why| Error::environment(&what, why))?;
        let (hash, size) = hasher.finish();
        check_archive(info, hash, size, &what)?;
        content::check(info, &self.place, &path)
    }
}

/// Checks that an archive with this hash and size is that of `info`.
pub(super) fn check_archive(info: &PathInfo, hash: Sha256, size: u64, what: &str) -> Result<()> {
    let why = if hash != info.nar_hash {
        format!(
            "the hash of its archive is {hash}, not {} as was said",
            info.nar_hash
        )
    } else if info.nar_size != 0 && size != info.nar_size {
        format!(
            "its archive has {size} bytes, not {} as was said",
            info.nar_size
        )
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Corrupt, what, why).hint("get it again from where it came from"))
}

/// Keeps an object and all that it refers to from being collected while it is made.
pub(in crate::operations) fn keep(
    store: &Store,
    name: &ObjectName,
    references: &BTreeSet<ObjectName>,
) -> Result<()> {
    store.keep(name)?;
    references.iter().try_for_each(|other| store.keep(other))
}

/// Locks objects, of which there are temporary roots.
pub(in crate::operations) fn lock<'n>(
    store: &Store,
    names: impl IntoIterator<Item = &'n ObjectName>,
) -> Result<PathLocks> {
    let names: BTreeSet<ObjectName> = names.into_iter().cloned().collect();
    PathLocks::take(&store.layout().merged, &names, store.interrupt())
}

/// Tells whether `name` is valid. Where only the lower says so, its metadata is copied up, unless
/// something in the upper hides its files.
pub(in crate::operations) fn settle(store: &mut Store, name: &ObjectName) -> Result<bool> {
    match validity(store, name)? {
        Validity::Upper => Ok(true),
        Validity::Lower if in_upper(store, name)? => Ok(false),
        Validity::Lower => copy_up(store, name).map(|()| true),
        Validity::None => Ok(false),
    }
}

/// Like [`settle`], with the lock of `name`: what hides a valid object of the lower without being
/// valid itself, as an interrupted addition leaves it, is removed.
fn settle_locked(store: &mut Store, name: &ObjectName) -> Result<bool> {
    if validity(store, name)? == Validity::Lower && in_upper(store, name)? {
        log::info!("removing what hides {name} of the lower store");
        Sides::of_top(store.layout())?.remove(name.as_str().as_bytes())?;
        store.refresh_view()?;
    }
    settle(store, name)
}

/// Which database has a row of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    Upper,
    Lower,
    None,
}

fn validity(store: &Store, name: &ObjectName) -> Result<Validity> {
    let metadata = store.metadata();
    if let Some(upper) = metadata.upper()
        && upper.is_valid(name)?
    {
        return Ok(Validity::Upper);
    }
    match metadata.lower() {
        Some(lower) if lower.is_valid(name)? => Ok(Validity::Lower),
        _ => Ok(Validity::None),
    }
}

fn copy_up(store: &mut Store, name: &ObjectName) -> Result<()> {
    store.write(|change, lower| match lower {
        Some(lower) => change.copy_up([name], lower).map(drop),
        None => Ok(()),
    })
}

/// Tells whether the upper directory has the name.
pub(in crate::operations) fn in_upper(store: &Store, name: &ObjectName) -> Result<bool> {
    exists(&store.layout().upper.join(name.as_str()))
}

/// Tells whether `path` leads to anything, be it a link that leads nowhere.
pub(super) fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(Error::on("look at", path, why)),
    }
}

/// Removes what stands at `place` without being valid.
pub(super) fn clear(store: &Store, place: &Place<'_>, name: &ObjectName) -> Result<()> {
    let Err(error) = remove_tree(place) else {
        return Ok(());
    };
    let lower = store.layout().lower.join(name.as_str());
    match exists(&lower)? {
        true => Err(error.hint(format!(
            "the lower store has it without a row: remove {}, or have its owner register it",
            lower.display()
        ))),
        false => Err(error),
    }
}

/// The merged directory, apart from the store that is open.
#[derive(Debug)]
pub(in crate::operations) struct Merged {
    dir: OwnedFd,
    path: PathBuf,
}

impl Merged {
    /// Returns that of `store`.
    pub(in crate::operations) fn of(store: &Store) -> Result<Merged> {
        let path = store.layout().merged.clone();
        let dir = store.merged().try_clone_to_owned();
        let dir = dir.map_err(|why| Error::on("open merged directory", &path, why))?;
        Ok(Merged { dir, path })
    }

    /// Tells whether there is anything of this name.
    pub(in crate::operations) fn has(&self, name: &ObjectName) -> Result<bool> {
        exists(&self.path.join(name.as_str()))
    }

    /// Returns the place of an object.
    pub(in crate::operations) fn place<'a>(&'a self, name: &'a ObjectName) -> Result<Place<'a>> {
        Place::new(self.dir.as_fd(), name.as_str().as_bytes(), &self.path)
    }
}
