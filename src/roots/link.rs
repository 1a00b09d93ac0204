// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making permanent roots: a link of the user's choice, and one below `STATE/gcroots/auto` that leads
//! to it.
//!
//! Invariant: a link is replaced in one step, and only a link into the store ever is.

use super::gc_lock::REFUSED;
use super::temp::TempRoots;
use crate::error::{Error, Result};
use crate::store::{Algorithm, Hash, ObjectName, StoreDir, path};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process;

/// Makes `link`, an absolute path, a link to `object`, and has collectors know of it. A temporary
/// root is added first, so that a collector at work keeps the object too.
///
/// # Errors
/// A path inside the store directory, and one at which there is something else than a link into it.
pub fn add_permanent_root(
    state: &Path,
    store: &StoreDir,
    temp: &TempRoots,
    link: &Path,
    object: &ObjectName,
) -> Result<()> {
    let link = canonical(link)?;
    let refused = |why: &str| Err(Error::on("create root", &link, why));
    if link.starts_with(store.as_path()) {
        return refused("it is in the store directory, where only objects may be");
    }
    temp.add(object)?;
    match fs::read_link(&link) {
        Ok(target) if target.starts_with(store.as_path()) => {}
        Ok(_) => return refused("a link that leads elsewhere has this name"),
        Err(why) if why.kind() == ErrorKind::NotFound => {}
        Err(why) if why.kind() == ErrorKind::InvalidInput => {
            return refused("something else than a link has this name");
        }
        Err(why) => return Err(Error::on("create root", &link, why)),
    }
    make_link(&link, &store.store_path(object))?;
    add_indirect_root(state, &link)
}

/// Has collectors look at the absolute path `link` for a link into the store.
pub fn add_indirect_root(state: &Path, link: &Path) -> Result<()> {
    let link = canonical(link)?;
    let name = Hash::of(Algorithm::Sha1, link.as_os_str().as_bytes()).base32();
    make_link(&state.join("gcroots/auto").join(name), &link).map_err(|error| error.hint(REFUSED))
}

fn canonical(link: &Path) -> Result<PathBuf> {
    path::canonical(link.as_os_str().as_bytes())
        .filter(|path| path.file_name().is_some())
        .ok_or_else(|| Error::usage(format!("create root {}", link.display()), NOT_ABSOLUTE))
}

const NOT_ABSOLUTE: &str = "it is not the absolute path of a link";

/// Makes or replaces `link`, with its parents.
fn make_link(link: &Path, target: &Path) -> Result<()> {
    let failed = |why: std::io::Error| Error::on("create link", link, why);
    let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
        return Err(failed(ErrorKind::InvalidInput.into()));
    };
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(failed)?;
    let mut prefix = OsString::from(name);
    prefix.push(format!(".tmp-{}-", process::id()));
    let made = tempfile::Builder::new()
        .prefix(&prefix)
        .rand_bytes(10)
        .make_in(parent, |path| symlink(target, path))
        .map_err(failed)?;
    made.persist(link).map_err(|why| failed(why.error))?;
    Ok(())
}
