// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that are made beside their place and moved there: because their names come last, or
//! because something broken is in their place until then.
//!
//! Invariant: what is in place is either what was there, or the whole new object.

use super::put::{Making, Merged, Put, keep, lock, put_with};
use super::watched::Watched;
use crate::error::{Error, Result};
use crate::nar::{Place, Restorer, remove_tree, tell};
use crate::operations::Store;
use crate::roots::TmpDir;
use crate::store::PathInfo;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The new object in its temporary directory.
const NEW: &[u8] = b"x";

/// The object that it replaces, there.
const OLD: &[u8] = b"old";

/// Where one object is made; what is left of it goes with this.
#[derive(Debug)]
pub(in crate::operations) struct Made {
    tmp: TmpDir,
    dir: OwnedFd,
}

impl Made {
    /// Makes an empty place.
    pub(in crate::operations) fn begin(store: &Store) -> Result<Made> {
        let tmp = TmpDir::create(&store.layout().merged)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(tmp.path(), flags, Mode::empty())
            .map_err(|why| Error::on("open", tmp.path(), why))?;
        Ok(Made { tmp, dir })
    }

    /// Returns the place.
    pub(in crate::operations) fn place(&self) -> Result<Place<'_>> {
        Place::new(self.dir.as_fd(), NEW, self.tmp.path())
    }

    /// Moves the object to its place in the store, where nothing is.
    fn move_to(&self, store: &Store, info: &PathInfo, place: &Place<'_>) -> Result<()> {
        let to = (store.merged(), info.name.as_str().as_bytes());
        match move_tree((self.dir.as_fd(), NEW), to) {
            Ok(()) => Ok(()),
            // Some filesystems move no directories.
            Err(Errno::XDEV) => {
                let what = format!("add {}", place.path().display());
                let mut restorer = Restorer::new(*place);
                let mut watched = Watched::new(&mut restorer, store.interrupt(), &what);
                match tell(&self.place()?, &mut watched) {
                    Ok(()) => restorer.finish(),
                    Err(error) => Err(restorer.undo(error)),
                }
            }
            Err(errno) => Err(Error::on("move the object to", place.path(), errno)),
        }
    }
}

/// Puts the object `info` into the store, which was made, complete and checked, at `made`.
pub(in crate::operations) fn put_made(
    store: &mut Store,
    info: &PathInfo,
    made: &Made,
) -> Result<Put> {
    put_with(store, info, |store, place| {
        made.move_to(store, info, place)?;
        register_or_remove(store, info, place)
    })
}

/// Puts the object `info` in place of one that is valid and broken, or into the store if there is
/// none. Nothing is changed until the new one is complete and proved to be what `info` says.
///
/// # Errors
/// As [`super::put()`]; and where the object is the lower's, unless the view lets those be replaced.
pub fn replace(store: &mut Store, info: &PathInfo, archive: &mut dyn Read) -> Result<()> {
    keep(store, &info.name, &info.references)?;
    let _locks = lock(store, [&info.name])?;
    let made = Made::begin(store)?;
    let interrupt = store.interrupt().clone();
    let mut making = Making::new(made.place()?, &interrupt);
    match making.restore(info, archive) {
        Ok(()) => making.restorer.finish()?,
        Err(error) => return Err(making.restorer.undo(error)),
    }
    let merged = Merged::of(store)?;
    let place = merged.place(&info.name)?;
    let there = (store.merged(), info.name.as_str().as_bytes());
    let moved = move_tree(there, (made.dir.as_fd(), OLD));
    match moved {
        Ok(()) | Err(Errno::NOENT) => {}
        // The lower's, which is hidden by removing it; or it is refused.
        Err(_) => remove_tree(&place).map(drop).map_err(|error| {
            let on = format!("overstore repair on {}", store.layout().merged.display());
            error.hint(format!(
                "what only the lower store has is replaced after: {on}"
            ))
        })?,
    }
    if let Err(error) = made.move_to(store, info, &place) {
        if moved.is_ok()
            && let Err(why) = move_tree((made.dir.as_fd(), OLD), there)
        {
            let path = place.path();
            return Err(error.hint(format!("{} could not be put back: {why}", path.display())));
        }
        return Err(error);
    }
    store.register(vec![info.clone()])
}

/// Registers what is in place; what cannot be registered is removed.
pub(super) fn register_or_remove(
    store: &mut Store,
    info: &PathInfo,
    place: &Place<'_>,
) -> Result<()> {
    let Err(error) = store.register(vec![info.clone()]) else {
        return Ok(());
    };
    match remove_tree(place) {
        Ok(_) => Err(error),
        Err(why) => Err(error.hint(format!("it is left, remove it: {why}"))),
    }
}

/// Moves a tree. The owner of a directory may have to make it writable for that.
fn move_tree(
    (from, name): (BorrowedFd<'_>, &[u8]),
    (to, as_name): (BorrowedFd<'_>, &[u8]),
) -> rustix::io::Result<()> {
    match rustix::fs::renameat(from, name, to, as_name) {
        Err(Errno::ACCESS) => {}
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(from, name, flags, Mode::empty()) else {
        return Err(Errno::ACCESS);
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode & 0o7777);
    rustix::fs::fchmod(&directory, mode | Mode::WUSR)?;
    let moved = rustix::fs::renameat(from, name, to, as_name);
    rustix::fs::fchmod(&directory, mode)?;
    moved
}
