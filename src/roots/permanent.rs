// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permanent roots: the links and files below `STATE/gcroots` and `STATE/profiles`.
//!
//! Invariant: only real directories below those two are entered, so nothing is met twice but by bind
//! mounts, and those end where paths grow too long, which is an error.

use super::Root;
use super::spelling::object_of;
use crate::error::{Error, Result};
use crate::store::{ObjectName, StoreDir, path};
use crate::wait::Interrupt;
use std::collections::BTreeSet;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What becomes of what keeps nothing any more: links below `gcroots/auto` that lead nowhere, files
/// of temporary roots whose process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// It stays.
    Keep,
    /// It is removed, as by every collector that deletes.
    Remove,
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permanent {
    /// The roots, by the links that lead into the store.
    pub roots: BTreeSet<Root>,
    /// The links below `gcroots/auto` that lead nowhere.
    pub stale: Vec<PathBuf>,
    /// Where there may be more, which this user may not read.
    pub unreadable: Vec<PathBuf>,
}

/// Finds the roots of `state` whose object is valid, as `is_valid` answers.
pub fn find_permanent_roots(
    state: &Path,
    store: &StoreDir,
    stale: Stale,
    is_valid: &dyn Fn(&ObjectName) -> Result<bool>,
    interrupt: &Interrupt,
) -> Result<Permanent> {
    let mut scan = Scan {
        auto: state.join("gcroots/auto"),
        store,
        stale,
        is_valid,
        found: Permanent::default(),
        directories: Vec::new(),
    };
    for top in ["gcroots", "profiles"] {
        let top = state.join(top);
        match fs::symlink_metadata(&top) {
            Ok(found) => scan.entry(top, found.file_type())?,
            Err(why) => scan.unread(top, why)?,
        }
    }
    while let Some(directory) = scan.directories.pop() {
        scan.directory(&directory, interrupt)?;
    }
    let Permanent { unreadable, .. } = &scan.found;
    if let Some(first) = unreadable.first() {
        let count = unreadable.len();
        log::warn!(
            "roots in {count} places may not be read, such as {}",
            first.display()
        );
    }
    Ok(scan.found)
}

struct Scan<'a> {
    auto: PathBuf,
    store: &'a StoreDir,
    stale: Stale,
    is_valid: &'a dyn Fn(&ObjectName) -> Result<bool>,
    found: Permanent,
    /// What is still to be read.
    directories: Vec<PathBuf>,
}

impl Scan<'_> {
    fn directory(&mut self, directory: &Path, interrupt: &Interrupt) -> Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(why) => return self.unread(directory.to_owned(), why),
        };
        for entry in entries {
            interrupt.check("find the roots")?;
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => return self.unread(directory.to_owned(), why),
            };
            match entry.file_type() {
                Ok(kind) => self.entry(entry.path(), kind)?,
                Err(why) => self.unread(entry.path(), why)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, kind: FileType) -> Result<()> {
        if kind.is_dir() {
            self.directories.push(path);
        } else if kind.is_symlink() {
            match fs::read_link(&path) {
                Ok(target) => self.link(path, &target)?,
                Err(why) => self.unread(path, why)?,
            }
        } else if kind.is_file() {
            let name = path.file_name().unwrap_or_default().as_bytes();
            if let Ok(object) = ObjectName::parse(name) {
                self.root(path, object)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: PathBuf, target: &Path) -> Result<()> {
        if self.is_inside(target) {
            return self.leads_to(path, target);
        }
        let from = path.parent().unwrap_or(Path::new("/"));
        let Some(indirect) = path::absolute(target.as_os_str().as_bytes(), from) else {
            return Ok(());
        };
        let target = match fs::read_link(&indirect) {
            Ok(target) => target,
            Err(why) if is_absent(&why) => return self.dangles(path),
            // Something else than a link.
            Err(why) if why.kind() == ErrorKind::InvalidInput => return Ok(()),
            Err(why) => return self.unread(path, why),
        };
        match self.is_inside(&target) {
            true => self.leads_to(indirect, &target),
            false => Ok(()),
        }
    }

    fn is_inside(&self, path: &Path) -> bool {
        let store = self.store.as_path().as_os_str().as_bytes();
        let below = path.as_os_str().as_bytes().strip_prefix(store);
        below.is_some_and(|below| below.len() > 1 && below.starts_with(b"/"))
    }

    fn leads_to(&mut self, link: PathBuf, target: &Path) -> Result<()> {
        match object_of(target, self.store.as_path()) {
            Some(object) => self.root(link, object),
            None => Ok(()),
        }
    }

    fn root(&mut self, link: PathBuf, object: ObjectName) -> Result<()> {
        if (self.is_valid)(&object)? {
            self.found.roots.insert(Root { link, object });
        } else {
            log::info!("{} leads to {object}, which is not valid", link.display());
        }
        Ok(())
    }

    /// A link whose target is gone: the user removed it. Below `auto` such links are forgotten.
    fn dangles(&mut self, path: PathBuf) -> Result<()> {
        if !path.starts_with(&self.auto) {
            return Ok(());
        }
        if self.stale == Stale::Remove {
            log::info!("removing stale link {}", path.display());
            match fs::remove_file(&path) {
                Err(why) if !is_absent(&why) => {
                    log::warn!("remove stale link {}: {why}", path.display());
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.found.stale.push(path);
        Ok(())
    }

    /// What vanished is no root; what others keep to themselves is told; anything else is an error.
    fn unread(&mut self, path: PathBuf, why: io::Error) -> Result<()> {
        if why.kind() == ErrorKind::PermissionDenied {
            self.found.unreadable.push(path);
            return Ok(());
        }
        if is_absent(&why) {
            return Ok(());
        }
        Err(Error::on("look for roots in", path, why))
    }
}

fn is_absent(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
