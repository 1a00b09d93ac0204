// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows without files: which are needed, and which go.
//!
//! Decides as Nix does: a row goes unless something valid refers to it, be it in the lower alone. One
//! thing differs: the row of an object that the lower store has as valid stays, since removing it
//! would mend nothing. Invariant: a row is removed in the same transaction in which it is seen that
//! nothing refers to it.

use super::contents::Objects;
use super::report::{Fault, Layer, Report, Wrong};
use crate::error::Result;
use crate::metadata::{Source, Union, Upper, is_in_use};
use crate::operations::Store;
use crate::store::ObjectName;
use std::collections::{BTreeMap, BTreeSet};

/// Judges the rows `missing`, whose names the view does not have.
#[derive(Debug)]
pub(super) struct Missing<'a> {
    pub(super) store: &'a Store,
    pub(super) view: Objects<'a>,
    /// The lower store directory, if it could be opened.
    pub(super) lower: Option<Objects<'a>>,
    pub(super) names: &'a BTreeSet<ObjectName>,
}

/// Why a row without files stays.
const IN_LOWER: &str = "its files are in the lower, and hidden: by a whiteout in the upper, or by a \
                        repair that was not finished";
const LOWER_LOST: &str = "the lower store has it as valid, and not its files: is it mounted?";
const LOWER_EMPTY: &str = "the lower store is empty: is it mounted?";

impl Missing<'_> {
    /// Returns the fault of each.
    pub(super) fn judge(&self, report: &mut Report) -> Result<Vec<Fault>> {
        let lower_empty = match self.names.is_empty() {
            true => false,
            false => self.lower_is_empty(report)?,
        };
        let mut lost = BTreeMap::new();
        let mut held = BTreeSet::new();
        let mut referred: BTreeMap<&ObjectName, Vec<&ObjectName>> = BTreeMap::new();
        for name in self.names {
            self.store.interrupt().check("verify")?;
            if let Some(why) = self.lost(name, lower_empty, report)? {
                lost.insert(name, why);
                held.insert(name);
            }
            for referrer in self.metadata().referrers(name)? {
                if referrer == *name {
                    continue;
                }
                match self.names.get(&referrer) {
                    Some(missing) => referred.entry(missing).or_default().push(name),
                    // What cannot be looked at is taken to be there.
                    None if self.view.has(referrer.as_str()).unwrap_or(true) => {
                        held.insert(name);
                    }
                    None => {}
                }
            }
        }
        let mut open: Vec<&ObjectName> = held.iter().copied().collect();
        while let Some(holder) = open.pop() {
            for name in referred.get(holder).into_iter().flatten() {
                if held.insert(name) {
                    open.push(name);
                }
            }
        }
        let fault = |name: &ObjectName| {
            let wrong = match (lost.get(name), held.contains(name)) {
                (Some(why), _) => Wrong::Lost(why),
                (None, true) => Wrong::Disappeared,
                (None, false) => Wrong::Unneeded,
            };
            let path = self.store.dir().store_path(name).display().to_string();
            Fault::new(Layer::Merged, path, Some(name.clone()), wrong)
        };
        Ok(self.names.iter().map(fault).collect())
    }

    fn metadata(&self) -> &Union<Upper> {
        self.store.metadata()
    }

    /// Why `name` is not shown, although the lower has it.
    fn lost(
        &self,
        name: &ObjectName,
        lower_empty: bool,
        report: &mut Report,
    ) -> Result<Option<&'static str>> {
        let has_files = self.lower.map(|lower| lower.has(name.as_str())).transpose();
        match has_files {
            Ok(Some(true)) => return Ok(Some(IN_LOWER)),
            Ok(_) => {}
            Err(why) => {
                report.not_checked(self.lower_path(name), why);
                return Ok(Some(LOWER_LOST));
            }
        }
        if lower_empty {
            return Ok(Some(LOWER_EMPTY));
        }
        let valid = self.metadata().lower().map(|lower| lower.is_valid(name));
        Ok(valid.transpose()?.unwrap_or(false).then_some(LOWER_LOST))
    }

    fn lower_path(&self, name: &ObjectName) -> String {
        let path = self.store.layout().lower.join(name.as_str());
        path.display().to_string()
    }

    /// Whether neither the lower directory nor its metadata has anything, which a lower that is not
    /// mounted looks like.
    fn lower_is_empty(&self, report: &mut Report) -> Result<bool> {
        let Some(lower) = self.lower else {
            let why = "it cannot be opened, so no row is removed";
            report.not_checked(self.store.layout().lower.display().to_string(), why);
            return Ok(true);
        };
        let failed = |why| crate::error::Error::on("list", lower.path, why);
        let entries = rustix::fs::Dir::read_from(lower.dir).map_err(failed)?;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_bytes().starts_with(b".") {
                return Ok(false);
            }
        }
        match self.metadata().lower() {
            Some(lower) => Ok(lower.all_valid()?.is_empty()),
            None => Ok(true),
        }
    }
}

/// Removes the rows `unneeded`, as far as they are still without files and referrers; returns those
/// that are gone.
pub(super) fn remove_rows(
    store: &mut Store,
    unneeded: &BTreeSet<ObjectName>,
) -> Result<BTreeSet<ObjectName>> {
    let merged = rustix::io::fcntl_dupfd_cloexec(store.merged(), 0)
        .map_err(|why| crate::error::Error::environment("keep the merged directory open", why))?;
    let path = store.layout().merged.clone();
    let view = Objects {
        dir: std::os::fd::AsFd::as_fd(&merged),
        path: &path,
    };
    store.write(|change, _| {
        let mut gone = BTreeSet::new();
        // Referrers go before what they refer to; each pass removes at least one.
        loop {
            let before = gone.len();
            for name in unneeded {
                if gone.contains(name) || view.has(name.as_str())? {
                    continue;
                }
                match change.delete(name) {
                    Ok(_) => {
                        gone.insert(name.clone());
                    }
                    Err(why) if is_in_use(&why) => {}
                    Err(why) => return Err(why),
                }
            }
            if gone.len() == before {
                return Ok(gone);
            }
        }
    })
}
