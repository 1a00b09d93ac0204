// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deleting what is dead.
//!
//! Invariant: an object's row goes before its files, so that whatever ends this leaves files without
//! a row, which the next collection takes, and never a row without files; and nothing is deleted of
//! which a process has told the collector before.

use super::live::World;
use super::removal::Sides;
use super::{Limits, Refusal, Report, Step};
use crate::error::{Error, Result};
use crate::metadata::{Source, is_in_use};
use crate::nar::Freed;
use crate::operations::Store;
use crate::roots::{Deleting, HashPart, Protected, lock_abandoned, remove_abandoned_lock};
use crate::store::ObjectName;
use rustix::fs::{FileType, Stat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Rows of objects without files here that are deleted in one transaction.
const BATCH: usize = 256;

const WHAT: &str = "collect garbage";

/// Why an object stays that was found dead.
const WANTED: &str = "it is still alive: a running process keeps it, since a moment ago";
const REFERRED: &str = "it is still alive: another object refers to it, since a moment ago";

/// A collection at work.
pub(super) struct Sweep<'a> {
    pub(super) store: &'a mut Store,
    pub(super) protected: &'a Protected,
    pub(super) sides: &'a mut Sides,
    pub(super) limits: Limits,
    pub(super) report: &'a mut Report,
    pub(super) tell: &'a mut dyn FnMut(Step<'_>),
    /// Of files that have one more link, in `.links`: freed when that is removed.
    pub(super) pending_bytes: u64,
    /// Objects of which a process told the collector, and what those refer to.
    pub(super) kept: BTreeSet<usize>,
}

impl Sweep<'_> {
    /// Deletes rows in the order in which they come, with files where the upper has some; whether
    /// there was room for all within the limit.
    pub(super) fn rows(
        &mut self,
        world: &World,
        order: &[usize],
        files: &BTreeSet<ObjectName>,
    ) -> Result<bool> {
        let mut bare: Vec<usize> = Vec::new();
        for &number in order {
            self.store.interrupt().check(WHAT)?;
            let has_files = files.contains(world.name(number));
            if has_files || bare.len() == BATCH {
                self.forget(world, &std::mem::take(&mut bare))?;
            }
            if !has_files {
                bare.push(number);
                continue;
            }
            if self.is_full() {
                return Ok(false);
            }
            self.object(world, number)?;
        }
        self.forget(world, &bare)?;
        Ok(!self.is_full())
    }

    fn is_full(&self) -> bool {
        let freed = self.report.bytes_freed;
        self.limits
            .is_full(freed.saturating_add(self.pending_bytes))
    }

    /// Begins to delete a row, unless somebody wants it now, or what refers to it stays.
    fn begin(&mut self, world: &World, number: usize) -> Option<Deleting> {
        let deleting = match self.kept.contains(&number) {
            true => None,
            false => self.protected.begin_delete(world.name(number)),
        };
        if deleting.is_none() {
            self.stays(world.name(number), WANTED);
            self.keep(world, number);
        }
        deleting
    }

    fn stays(&mut self, name: &ObjectName, why: &str) {
        log::debug!("{name} stays: {why}");
        self.report.in_use.push(Refusal {
            name: name.clone(),
            why: why.to_owned(),
        });
    }

    fn keep(&mut self, world: &World, number: usize) {
        self.kept.insert(number);
        self.kept.extend(world.references(number));
    }

    /// Deletes rows whose objects have no files here: copies of what the lower knows.
    fn forget(&mut self, world: &World, numbers: &[usize]) -> Result<()> {
        let mut guards = Vec::new();
        let mut chosen = Vec::new();
        for &number in numbers {
            if let Some(deleting) = self.begin(world, number) {
                guards.push(deleting);
                chosen.push(number);
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let (gone, used) = self.store.write(|change, _| {
            let (mut gone, mut used) = (0, Vec::new());
            for &number in &chosen {
                match change.delete(world.name(number)) {
                    Ok(had) => gone += u64::from(had),
                    Err(why) if is_in_use(&why) => used.push((number, why)),
                    Err(why) => return Err(why),
                }
            }
            Ok((gone, used))
        })?;
        self.report.rows_dropped += gone;
        for (number, why) in used {
            self.in_use(world, number, &why);
        }
        drop(guards);
        Ok(())
    }

    fn in_use(&mut self, world: &World, number: usize, why: &Error) {
        // Whoever registers a reference to a dead object must have told of the object first.
        log::warn!("{why}");
        self.stays(world.name(number), REFERRED);
        self.keep(world, number);
    }

    /// Deletes one object with its row.
    fn object(&mut self, world: &World, number: usize) -> Result<()> {
        let name = world.name(number);
        let Some(deleting) = self.begin(world, number) else {
            return Ok(());
        };
        match self.store.write(|change, _| change.delete(name)) {
            Ok(_) => {}
            Err(why) if is_in_use(&why) => {
                self.in_use(world, number, &why);
                return Ok(());
            }
            Err(why) => return Err(why),
        }
        self.files(name.as_str().as_bytes())?;
        drop(deleting);
        Ok(())
    }

    /// Deletes what has the name of an object and no row.
    pub(super) fn rowless(&mut self, name: &ObjectName) -> Result<bool> {
        self.store.interrupt().check(WHAT)?;
        if self.is_full() {
            return Ok(false);
        }
        let Some(_deleting) = self.protected.begin_delete(name) else {
            self.stays(name, WANTED);
            return Ok(true);
        };
        // Registered meanwhile, by somebody who told nobody.
        let valid = self
            .store
            .metadata()
            .upper()
            .map(|upper| upper.is_valid(name));
        if valid.transpose()? == Some(true) {
            self.stays(name, "it is still alive: somebody registered it meanwhile");
            return Ok(true);
        }
        if self.lock_file(name.as_str().as_bytes())? {
            return Ok(true);
        }
        self.files(name.as_str().as_bytes())?;
        Ok(true)
    }

    /// Removes an empty lock file so that who waits for it knows; `false` if it is something else.
    fn lock_file(&mut self, name: &[u8]) -> Result<bool> {
        let Some(found) = self.sides.stat(name)? else {
            return Ok(true);
        };
        if !has_lock_file(name, &found) || self.sides.lower_has(name)? {
            return Ok(false);
        }
        match remove_abandoned_lock(&self.sides.merged_path(name)) {
            Ok(true) => self.told(name, Freed::default()),
            Ok(false) => {
                if let Ok(name) = ObjectName::parse(name) {
                    self.stays(&name, "somebody has it locked");
                }
            }
            Err(why) => self.failed(why)?,
        }
        Ok(true)
    }

    /// Deletes a name that is no object's.
    pub(super) fn garbage(&mut self, name: &OsStr) -> Result<bool> {
        self.store.interrupt().check(WHAT)?;
        if self.is_full() {
            return Ok(false);
        }
        let bytes = name.as_bytes();
        let Some(found) = self.sides.stat(bytes)? else {
            return Ok(true);
        };
        if is_temporary_directory(bytes, &found) {
            // Locks are taken through the view, so they are seen there alone.
            let Some(_locked) = lock_abandoned(&self.sides.merged_path(bytes))? else {
                log::debug!("{} is in use", name.display());
                return Ok(true);
            };
            self.files(bytes)?;
            return Ok(true);
        }
        self.files(bytes)?;
        Ok(true)
    }

    fn files(&mut self, name: &[u8]) -> Result<()> {
        (self.tell)(Step::Deleting(OsStr::from_bytes(name)));
        match self.sides.remove(name) {
            Ok(freed) => self.told(name, freed),
            Err(why) => self.failed(why)?,
        }
        Ok(())
    }

    fn told(&mut self, name: &[u8], freed: Freed) {
        self.report.bytes_freed += freed.bytes;
        self.pending_bytes += freed.linked_once;
        let path = self.store.dir().as_path().join(OsStr::from_bytes(name));
        self.report.deleted.push(path);
    }

    fn failed(&mut self, why: Error) -> Result<()> {
        if !self.store.layout().settings.ignore_gc_delete_failure {
            return Err(why);
        }
        log::warn!("{why}");
        self.report.failed += 1;
        Ok(())
    }
}

/// Whether it is a directory in which objects are made, which is locked while it is used.
pub(super) fn is_temporary_directory(name: &[u8], found: &Stat) -> bool {
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    is_directory && name.starts_with(b"tmp-")
}

/// Whether it is what the lock of an object looks like, which is locked while somebody makes that.
pub(super) fn has_lock_file(name: &[u8], found: &Stat) -> bool {
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    let empty = found.st_size == 0 && found.st_mode & 0o600 == 0o600;
    is_file && empty && name.ends_with(b".lock")
}

/// Whether somebody keeps an object by its hash part.
pub(super) fn is_kept(kept: &BTreeSet<HashPart>, name: &ObjectName) -> bool {
    kept.contains(&HashPart::of(name))
}
