// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories in the store in which objects are made: `MERGED/tmp-PID-N`.
//!
//! Invariant: as long as one is in use, its directory is locked, by which collectors leave it alone.

use crate::error::{Error, Result};
use crate::wait::{Hold, try_lock};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// More than anybody leaves behind under one process number.
const TRIES: usize = 100_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A locked temporary directory, removed with its content when this is dropped.
#[derive(Debug)]
pub struct TmpDir {
    path: PathBuf,
    _locked: File,
}

impl TmpDir {
    /// Creates one in `merged`, for this user alone.
    pub fn create(merged: &Path) -> Result<TmpDir> {
        for _ in 0..TRIES {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = merged.join(format!("tmp-{}-{n}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(why) if why.kind() == ErrorKind::AlreadyExists => continue,
                Err(why) => return Err(failed(&path, why)),
            }
            // A collector may have met it before it was locked.
            if let Some(locked) = lock_abandoned(&path)?
                && path.try_exists().map_err(|why| failed(&path, why))?
            {
                let _locked = locked;
                return Ok(TmpDir { path, _locked });
            }
        }
        Err(failed(merged, io::Error::other("every name is taken")))
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        if let Err(why) = remove(&self.path) {
            log::warn!("remove {}: {why}", self.path.display());
        }
    }
}

/// Locks the temporary directory `path` of a process that is gone; `None` if one uses it, or it is
/// gone as well. It may be removed while the answer lives.
pub fn lock_abandoned(path: &Path) -> Result<Option<File>> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).map_err(|why| failed(path, io::Error::other(why)))?;
    let directory = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(directory) => directory,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(path, why)),
    };
    let locked = try_lock(&directory, path, Hold::Exclusive)?;
    Ok(locked.then_some(directory))
}

/// Tells whether somebody has locked the temporary directory, or the lock file, `path`; one that is
/// gone nobody has.
pub fn is_in_use(path: &Path) -> Result<bool> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|why| failed(path, io::Error::other(why)))?;
    let opened = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(opened) => opened,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(failed(path, why)),
    };
    Ok(!try_lock(&opened, path, Hold::Shared)?)
}

fn failed(path: &Path, why: io::Error) -> Error {
    Error::on("use temporary directory", path, why)
}

/// Removes the directory; what is canonical in it may not be written by a plain user.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(why) if why.kind() == ErrorKind::PermissionDenied => {}
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        done => return done,
    }
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}
