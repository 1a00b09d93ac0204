// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at what a view shows.
//!
//! Invariant: everything is asked of the view anew, contents and all.

use super::{Backend, Mounted, errno};
use crate::common::check;
use crate::op::Place;
use crate::outcome::{Entry, Outcome, Snapshot, data};
use rustix::io::Errno;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

impl Mounted<'_> {
    /// Looks at everything that the view shows.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.look(&Place::default(), None, &mut snapshot);
        snapshot
    }

    /// Tells whether a listing may tell `told` instead of the object's own number: the kernel does of a
    /// merged directory that it did not make. The driver keeps the node of a duplicate that went and
    /// so its number; who gets that number next has a node, and a number in listings, of its own
    /// (docs/semantics.md, "Known limits").
    fn may_tell(&self, place: &Place, number: u64, told: u64) -> bool {
        let (names, numbers) = &self.gone;
        let kept = names.iter().any(|name| place.0.starts_with(&name.0));
        let private = told >> 63 == 1;
        self.backend == Backend::Kernel
            || (kept && (private || numbers.contains(&told)))
            || (private && numbers.contains(&number))
    }

    fn look(&self, place: &Place, listed: Option<u64>, into: &mut Snapshot) {
        let path = self.path(place);
        let found = match entry(&path) {
            Ok(found) => found,
            // In a directory of the upper alone the kernel lists whiteouts that lead nowhere.
            Err(Errno::NOENT) if self.backend == Backend::Kernel => return,
            Err(error) => {
                return into
                    .faults
                    .push(format!("{place}: is listed, but: {error}"));
            }
        };
        let number = match fs::symlink_metadata(&path) {
            Ok(again) => again.ino(),
            Err(error) => return into.faults.push(format!("{place}: asked again: {error}")),
        };
        if let Some(told) =
            listed.filter(|told| *told != number && !self.may_tell(place, number, *told))
        {
            into.faults
                .push(format!("{place}: number {number}, listed with {told}"));
        }
        let is_dir = found.kind == "dir";
        if into.entries.insert(place.clone(), found).is_some() {
            into.faults.push(format!("{place}: listed twice"));
        }
        if !is_dir {
            return;
        }
        let listing: std::io::Result<Vec<_>> = fs::read_dir(&path).and_then(Iterator::collect);
        match listing {
            Ok(listing) => {
                for one in listing {
                    let inside = place.join(one.file_name().as_bytes());
                    self.look(&inside, Some(one.ino()), into);
                }
            }
            Err(error) => into.faults.push(format!("{place}: its listing: {error}")),
        }
    }
}

/// Describes an object, with what it holds.
pub(super) fn entry(path: &Path) -> Result<Entry, Errno> {
    let found = fs::symlink_metadata(path).map_err(|error| errno(&error))?;
    let kind = check::kind(found.file_type());
    let content = match kind {
        "file" => Some(data(&fs::read(path).map_err(|error| errno(&error))?)),
        "symlink" => Some(data(
            fs::read_link(path)
                .map_err(|error| errno(&error))?
                .as_os_str()
                .as_bytes(),
        )),
        _ => None,
    };
    Ok(Entry {
        kind,
        mode: found.mode() & 0o7777,
        owner: (found.uid(), found.gid()),
        numbers: (!found.is_dir()).then(|| (found.size(), found.nlink())),
        mtime: Some(found.mtime()),
        open_links: false,
        content,
    })
}

/// Lists a directory, in the order of the names.
pub(super) fn read_dir(path: &Path) -> Result<Outcome, Errno> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| errno(&error))? {
        let entry = entry.map_err(|error| errno(&error))?;
        let kind = entry.file_type().map_err(|error| errno(&error))?;
        names.push((entry.file_name().into_vec(), check::kind(kind)));
    }
    names.sort();
    Ok(Outcome::Names(names))
}
