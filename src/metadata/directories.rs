// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state directory as Nix lays it out, without the database.
//!
//! Invariant: what exists keeps its content; what is created has the mode that Nix, which sets
//! its own umask (022), would give it.

use super::way_out;
use crate::error::{Error, Result};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

const DIRECTORY_MODE: u32 = 0o755;

/// The ballast that a collector removes first, so that it can write on a full disk.
const RESERVED_BYTES: u64 = 8 << 20;

/// Removes the ballast in `state`, so that a collector has room to write; whoever opens the database
/// next makes it again.
pub fn remove_ballast(state: &Path) {
    let path = state.join("db/reserved");
    match std::fs::remove_file(&path) {
        Err(why) if why.kind() != ErrorKind::NotFound => {
            log::debug!("remove {}: {why}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}

/// Creates what is missing below `state`.
pub(super) fn create(state: &Path) -> Result<()> {
    for name in ["profiles", "profiles/per-user", "temproots", "db"] {
        create_directory(&state.join(name), state)?;
    }
    create_gc_roots(state)?;
    for name in ["profiles/per-user", "gcroots/per-user"] {
        open_to_all(&state.join(name));
    }
    Ok(())
}

/// Creates the ballast if it is missing. To be done when the database is open: what a collector freed
/// by removing it is for opening the database, first of all.
pub(super) fn keep_ballast(state: &Path) {
    if let Err(error) = reserve(&state.join("db/reserved")) {
        log::debug!(
            "no ballast for the collector in {}: {error}",
            state.display()
        );
    }
}

/// Sets the permission bits of `file`, which the umask may have cut; an inherited set-group-id
/// bit stays.
pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let found = file.metadata()?.mode();
    if found & 0o777 != mode {
        file.set_permissions(Permissions::from_mode(found & 0o7000 | mode))?;
    }
    Ok(())
}

/// Creates the roots. Nix before 2.34 finds the roots in profiles only through a link in a
/// `gcroots` of its own making, so whoever makes `gcroots` owes it that link.
fn create_gc_roots(state: &Path) -> Result<()> {
    let roots = state.join("gcroots");
    if create_directory(&roots, state)? {
        let link = roots.join("profiles");
        match symlink(state.join("profiles"), &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::on("create link", link, error).hint(way_out(state)));
            }
            Ok(()) | Err(_) => {}
        }
    }
    create_directory(&roots.join("per-user"), state)?;
    Ok(())
}

/// Creates `path` and its parents where missing; answers whether `path` was.
fn create_directory(path: &Path, state: &Path) -> Result<bool> {
    match make(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                create_directory(parent, state)?;
            }
            match make(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(refused(path, state, &error)),
            }
        }
        // A read-only filesystem or a forbidden parent says so even of what exists.
        Err(error) => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(false),
            Ok(_) | Err(_) => Err(refused(path, state, &error)),
        },
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    set_mode(&File::open(path)?, DIRECTORY_MODE)
}

fn refused(path: &Path, state: &Path, error: &io::Error) -> Error {
    Error::on("create state directory", path, error).hint(way_out(state))
}

/// Gives a `per-user` directory the mode that Nix insists on; only its owner can.
fn open_to_all(path: &Path) {
    let result = File::open(path).and_then(|directory| set_mode(&directory, DIRECTORY_MODE));
    if let Err(error) = result {
        log::debug!("mode of {} stays: {error}", path.display());
    }
}

/// Creates the ballast if it is missing; one of another size is somebody's configuration.
fn reserve(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let filled = fill(&mut file);
    if filled.is_err() {
        // What there is of it would take the last room from the database.
        std::fs::remove_file(path)?;
    }
    filled
}

fn fill(file: &mut File) -> io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), 0, RESERVED_BYTES) {
        Ok(()) => return Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => return Err(Errno::NOSPC.into()),
        Err(why) => log::debug!("fallocate: {why}"),
    }
    static BLOCK: [u8; 1 << 16] = [b'X'; 1 << 16];
    for _ in 0..RESERVED_BYTES >> 16 {
        file.write_all(&BLOCK)?;
    }
    Ok(())
}
