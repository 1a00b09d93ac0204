// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a good copy of an object may come from: a directory of objects, a daemon, a binary cache.
//!
//! Decides only where an archive is read; whether it is the right one is for who takes it. Invariant:
//! an origin is never written, and no reader is left behind by an end before its time.

use super::cache::Cache;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutEnv, LowerStore, OtherStore, Warning};
use crate::metadata::lower::daemon::{Daemon, Patience};
use crate::nar::{Place, dump};
use crate::store::{ObjectName, StoreDir};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

/// A store that may have good copies.
#[derive(Debug)]
pub struct Origin {
    label: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Files(OwnedFd, PathBuf),
    Daemon(Box<Daemon>),
    Cache(Cache),
}

/// Read at once from an origin, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// The spelling of a binary cache in a directory.
const CACHE: &[u8] = b"file://";

impl Origin {
    /// Opens the store that `url` names, whose objects must be named as those of `layout` are.
    pub fn open(url: &OsStr, layout: &Layout, env: &LayoutEnv) -> Result<(Origin, Vec<Warning>)> {
        let label = url.as_bytes().escape_ascii().to_string();
        let dir = crate::operations::store_dir(layout)?;
        if let Some(path) = url.as_bytes().strip_prefix(CACHE) {
            let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
            let way = Way::Cache(Cache::open(Path::new(OsStr::from_bytes(path)), dir)?);
            return Ok((Origin { label, way }, Vec::new()));
        }
        let scheme = url.as_bytes().split(|byte| *byte == b':').next();
        if let Some(b"http" | b"https" | b"s3" | b"ssh" | b"ssh-ng") = scheme {
            let why = "only stores of this machine can be read";
            return Err(Error::usage(format!("store {label}"), why)
                .hint("copy the objects first: nix copy --from URL --to file:///DIR PATH"));
        }
        let (other, warnings) = OtherStore::parse(url.as_bytes(), env)?;
        if other.store_dir != layout.store_dir {
            let why = format!("its objects are named {}/...", other.store_dir.display());
            let hint = format!("add store={} to it", layout.store_dir.display());
            return Err(Error::usage(format!("store {label}"), why).hint(hint));
        }
        let way = match other.store {
            LowerStore::Daemon { socket } => daemon(&socket, dir),
            _ => Way::Files(open_dir(&other.directory)?, other.directory),
        };
        Ok((Origin { label, way }, warnings))
    }

    /// Returns what it is called.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Has `take` read the archive of `name`; `None` if the origin has none.
    pub(super) fn with_archive<T>(
        &self,
        name: &ObjectName,
        take: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<Option<T>> {
        match &self.way {
            Way::Files(dir, path) => of_files(dir, path, name, take),
            Way::Cache(cache) => cache.with_archive(name, take),
            Way::Daemon(daemon) => {
                use crate::metadata::Source;
                if !daemon.is_valid(name)? {
                    return Ok(None);
                }
                take(&mut BufReader::with_capacity(
                    BUFFER_BYTES,
                    daemon.nar(name)?,
                ))
                .map(Some)
            }
        }
    }
}

fn daemon(socket: &Path, dir: StoreDir) -> Way {
    Way::Daemon(Box::new(Daemon::new(socket, dir, Patience::default())))
}

/// Opens a directory of objects.
pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|why| Error::on("open store directory", path, why))
}

/// Dumps an object in a thread of its own, for `take` to read.
fn of_files<T>(
    dir: &OwnedFd,
    path: &Path,
    name: &ObjectName,
    take: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<Option<T>> {
    match rustix::fs::statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        Err(why) => return Err(Error::on("look at", path.join(name.as_str()), why)),
        Ok(_) => {}
    }
    let place = Place::new(dir.as_fd(), name.as_str().as_bytes(), path)?;
    let (reader, writer) = std::io::pipe().map_err(|why| Error::environment("make a pipe", why))?;
    thread::scope(|scope| {
        // It ends when the reader is gone: writing fails then.
        let dumping = scope.spawn(move || dump(&place, writer));
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let taken = take(&mut reader);
        drop(reader);
        match (dumping.join(), taken) {
            (Ok(Ok(())), taken) => taken.map(Some),
            // What could not be read explains why the archive had no end.
            (Ok(Err(why)), _) => Err(why),
            (Err(_), _) => Err(Error::on(
                "read",
                path.join(name.as_str()),
                "the reader failed",
            )),
        }
    })
}
