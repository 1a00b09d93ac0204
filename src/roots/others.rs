// SPDX-License-Identifier: MIT OR Apache-2.0
//! The temporary roots of all processes, as a collector reads them.
//!
//! Invariant: a file that is locked is read whole up to its last record; a record that is no store
//! path is an error, since nobody knows what it meant to keep.

use super::temp::remove_and_mark;
use super::{HashPart, Root, Stale};
use crate::error::{Error, Kind, Result};
use crate::store::{ObjectName, StoreDir};
use crate::wait::{Hold, try_lock};
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer than every path; a file without a NUL would otherwise be read into memory.
pub(super) const RECORD_MAX_BYTES: u64 = 8192;

/// Returns the hash parts that living processes keep; `stale` says what becomes of the files of dead
/// ones. To be called under the exclusive lock, with the server at work: what is added later is told
/// to it.
pub fn find_temp_roots(state: &Path, store: &StoreDir, stale: Stale) -> Result<BTreeSet<HashPart>> {
    let mut found = BTreeSet::new();
    each_file(state, &mut |path, _| {
        let mut options = OpenOptions::new();
        options.read(true).write(stale == Stale::Remove);
        let opened = open(path, &mut options).map_err(|why| failed(path, why))?;
        let Some(file) = opened else {
            return Ok(());
        };
        if !is_abandoned(&file, path, stale)? {
            return read_records(&file, path, store, &mut |object| {
                found.insert(HashPart::of(&object));
            });
        }
        if stale == Stale::Remove {
            log::info!("removing stale temporary roots file {}", path.display());
            remove_and_mark(path, &file)?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Returns the temporary roots of living processes as roots, `{temp:PID}` as their link, without
/// any effect: for who only wants to know.
pub fn list_temp_roots(state: &Path, store: &StoreDir) -> Result<BTreeSet<Root>> {
    let mut found = BTreeSet::new();
    let mut unreadable = 0;
    each_file(state, &mut |path, process| {
        let file = match open(path, OpenOptions::new().read(true)) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            Err(why) if why.kind() == ErrorKind::PermissionDenied => {
                unreadable += 1;
                return Ok(());
            }
            Err(why) => return Err(failed(path, why)),
        };
        if is_abandoned(&file, path, Stale::Keep)? {
            return Ok(());
        }
        let link = PathBuf::from(format!("{{temp:{}}}", process.display()));
        read_records(&file, path, store, &mut |object| {
            let link = link.clone();
            found.insert(Root { link, object });
        })
    })?;
    if unreadable > 0 {
        log::warn!("temporary roots of {unreadable} processes may not be read");
    }
    Ok(found)
}

/// Calls `take` with the file of each process, and with its name, which begins with a number.
fn each_file(state: &Path, take: &mut dyn FnMut(&Path, &OsStr) -> Result<()>) -> Result<()> {
    let directory = state.join("temproots");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(Error::on("read", directory, why)),
    };
    for entry in entries {
        let entry = entry.map_err(|why| Error::on("read", &directory, why))?;
        let process = entry.file_name();
        if process.as_bytes().first() != Some(&b'.') {
            take(&entry.path(), &process)?;
        }
    }
    Ok(())
}

/// Tells whether nobody has the file locked, as its owner does while he lives. Where it is to be
/// removed, the answer comes with the lock: nobody takes the file for his own meanwhile.
fn is_abandoned(file: &File, path: &Path, stale: Stale) -> Result<bool> {
    let hold = match stale {
        Stale::Keep => Hold::Shared,
        Stale::Remove => Hold::Exclusive,
    };
    try_lock(file, path, hold)
}

/// Opens a regular file; `None` if it is gone.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<Option<File>> {
    // No fifo or device keeps its reader waiting.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = match options.custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    match file.metadata()?.is_file() {
        true => Ok(Some(file)),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn failed(path: &Path, why: io::Error) -> Error {
    Error::on("read temporary roots", path, why)
        .hint("if it is no file of Nix or overstore, remove it")
}

fn read_records(
    file: &File,
    path: &Path,
    store: &StoreDir,
    found: &mut dyn FnMut(ObjectName),
) -> Result<()> {
    // What comes later is told to the collector, and no more than this could be without end.
    let bytes = file.metadata().map_err(|why| failed(path, why))?.len();
    let mut reader = BufReader::new(file).take(bytes);
    let mut record = Vec::new();
    loop {
        record.clear();
        let mut limited = (&mut reader).take(RECORD_MAX_BYTES);
        let read = limited.read_until(0, &mut record);
        read.map_err(|why| Error::on("read temporary roots", path, why))?;
        match record.split_last() {
            Some((0, text)) => match store.parse(Path::new(OsStr::from_bytes(text))) {
                Some(Ok(name)) => found(name),
                _ => return Err(garbage(path, text)),
            },
            // Half a record is just being written, by one who tells the collector as well.
            Some(_) if u64::try_from(record.len()).unwrap_or(u64::MAX) < RECORD_MAX_BYTES => {
                return Ok(());
            }
            Some((_, text)) => return Err(garbage(path, text)),
            None => return Ok(()),
        };
    }
}

fn garbage(path: &Path, record: &[u8]) -> Error {
    let shown = record.get(..100).unwrap_or(record).escape_ascii();
    let why = format!("'{shown}' is no path of this store");
    let what = format!("read temporary roots {}", path.display());
    Error::new(Kind::Corrupt, what, why).hint("end the process that it belongs to")
}
