// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a store is what its rows say, and having it be so again.
//!
//! Decides what is looked at and in which order; it is Nix's own verification, and what that does not
//! see of an overlay store. Invariants: no collector works meanwhile; what could not be looked at is
//! told as such, never as absent; without `repair` nothing changes but rows that nothing needs, and in
//! a dry run nothing at all.
//!
//! * `report`: faults and their words.
//! * `contents`: reading objects, several at once. `missing`: rows without files. `shadow`: what hides
//!   objects of the lower. `closure`: references. `links`: the files in `.links`. `lower`: the lower's
//!   own rows.
//! * `mend`: which fault is mended how; `repair`: objects; `origin`, `cache`: where good ones come from.

mod cache;
mod closure;
mod contents;
mod links;
mod lower;
mod mend;
mod missing;
mod origin;
mod repair;
mod report;
mod shadow;

pub use contents::Progress;
pub use origin::Origin;
pub use report::{Fault, Layer, NotChecked, Repaired, Report, Wrong};

use crate::backend::mountinfo::{self, Backend};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::{Recorded, Source};
use crate::operations::Store;
use crate::roots::GcLock;
use crate::store::{ObjectName, Sha256};
use contents::{Objects, Run, Seen, Shown};
use missing::{Missing, remove_rows};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// What is to be verified, and how.
#[derive(Debug)]
pub struct Options {
    /// These objects alone; empty for all of the upper database.
    pub only: BTreeSet<ObjectName>,
    /// Whether contents are read.
    pub contents: bool,
    /// Whether faults are mended.
    pub repair: bool,
    /// Stores beside the lower from which good copies may come.
    pub origins: Vec<Origin>,
    /// Whether the lower's own rows are looked at as well.
    pub lower: bool,
    /// Whether nothing may change.
    pub dry_run: bool,
    /// How many objects are read at once.
    pub threads: usize,
}

/// Verifies `store`. What was found before an error is in the report as well.
pub fn verify(store: &mut Store, options: &Options, progress: &Progress) -> Report {
    let mut report = Report::default();
    if let Err(why) = all(store, options, progress, &mut report) {
        report.ended = Some(why);
    }
    report
}

/// The directories of one run, open beside the store, which changes meanwhile.
#[derive(Debug)]
struct Dirs {
    merged: (OwnedFd, PathBuf),
    upper: (OwnedFd, PathBuf),
    lower: Option<(OwnedFd, PathBuf)>,
    /// Who serves the view, if it is one of these layers.
    backend: Option<Backend>,
}

impl Dirs {
    fn open(store: &Store, report: &mut Report) -> Result<Dirs> {
        let layout = store.layout();
        let merged = rustix::io::fcntl_dupfd_cloexec(store.merged(), 0)
            .map_err(|why| Error::environment("keep the merged directory open", why))?;
        let lower = match origin::open_dir(&layout.lower) {
            Ok(dir) => Some((dir, layout.lower.clone())),
            Err(why) => {
                report.not_checked(layout.lower.display().to_string(), why);
                None
            }
        };
        Ok(Dirs {
            merged: (merged, layout.merged.clone()),
            upper: (origin::open_dir(&layout.upper)?, layout.upper.clone()),
            lower,
            backend: backend(layout)?,
        })
    }

    /// The objects as they are stored.
    fn shown(&self) -> Shown<'_> {
        let layers = self.backend.map(|_| (self.upper(), self.lower()));
        Shown {
            view: self.view(),
            layers,
        }
    }

    fn view(&self) -> Objects<'_> {
        objects(&self.merged)
    }

    fn upper(&self) -> Objects<'_> {
        objects(&self.upper)
    }

    fn lower(&self) -> Option<Objects<'_>> {
        self.lower.as_ref().map(objects)
    }
}

/// Returns who serves the merged view of `layout`; `None` if none of just these layers is mounted.
fn backend(layout: &Layout) -> Result<Option<Backend>> {
    let mounts = mountinfo::read()?;
    let entry = mountinfo::find(&mounts, &layout.merged);
    let found = entry.and_then(mountinfo::Entry::merged_view);
    let ours =
        found.filter(|(_, layers)| layers.lower == layout.lower && layers.upper == layout.upper);
    Ok(ours.map(|(backend, _)| backend))
}

fn objects((dir, path): &(OwnedFd, PathBuf)) -> Objects<'_> {
    Objects {
        dir: dir.as_fd(),
        path,
    }
}

/// The rows of one run.
#[derive(Debug, Default)]
struct Rows {
    /// Every object with a row in the upper database.
    known: BTreeSet<ObjectName>,
    /// Those to look at that have one.
    own: Vec<Recorded>,
    /// Those to look at that only the lower has.
    below: Vec<Recorded>,
}

fn all(
    store: &mut Store,
    options: &Options,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    let interrupt = store.interrupt().clone();
    let run = Run {
        threads: options.threads.max(1),
        interrupt: &interrupt,
        progress,
    };
    let state = store.layout().state.clone();
    let _lock = state
        .map(|state| GcLock::shared(&state, &interrupt))
        .transpose()?;
    // What was done to the layers before this run is to be told, not what the view still shows.
    store.refresh_view()?;
    let dirs = Dirs::open(store, report)?;
    let rows = rows(store, options, report)?;
    let there = existing(store, options, &dirs, &rows, &run, report)?;
    let asked = (!options.only.is_empty()).then_some(&options.only);
    shadows(store, options, &dirs, &rows, &run, report)?;
    let own = rows.own.iter().map(|row| row.name.clone()).collect();
    closure::find(store, &own, report)?;
    if options.contents {
        if asked.is_none() {
            mend::links(store, options, &dirs, &run, report)?;
        }
        contents(store, options, &dirs, &there, &run, report)?;
    }
    if options.lower {
        lower::check(store, dirs.lower(), asked, options.contents, &run, report)?;
        mend::cover(store, &dirs, &run, report)?;
    }
    if options.repair && !options.dry_run {
        mend::mend(store, options, &dirs, &rows.own, &run, report)?;
    }
    Ok(())
}

/// Looks for what hides objects that were asked for.
fn shadows(
    store: &Store,
    options: &Options,
    dirs: &Dirs,
    rows: &Rows,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    let reading = options.contents.then_some(run);
    let before = report.faults.len();
    let (upper, view) = (dirs.upper(), dirs.view());
    shadow::find(store, &upper, &view, &rows.known, reading, report)?;
    let found = report.faults.split_off(before);
    let wanted = |fault: &Fault| {
        let name = fault.name.as_ref();
        options.only.is_empty() || name.is_none_or(|name| options.only.contains(name))
    };
    report.faults.extend(found.into_iter().filter(wanted));
    Ok(())
}

/// Reads the rows; bad ones are faults.
fn rows(store: &Store, options: &Options, report: &mut Report) -> Result<Rows> {
    let mut rows = Rows::default();
    let upper = store.metadata().upper();
    let recorded = upper.map(|upper| upper.recorded()).transpose()?;
    for row in recorded.into_iter().flatten() {
        match row {
            Ok(row) => {
                rows.known.insert(row.name.clone());
                if options.only.is_empty() || options.only.contains(&row.name) {
                    rows.own.push(row);
                }
            }
            Err(bad) => {
                let wrong = Wrong::Row(bad.why.to_string());
                report
                    .faults
                    .push(Fault::new(Layer::Merged, bad.path, None, wrong));
            }
        }
    }
    for name in options.only.difference(&rows.known) {
        let below = store.metadata().lower().map(|lower| lower.path_info(name));
        let Some(info) = below.transpose()?.flatten() else {
            let path = store.dir().store_path(name);
            let what = format!("verify {}", path.display());
            return Err(Error::new(Kind::Negative, what, "it is not valid"));
        };
        rows.below.push(Recorded {
            name: info.name,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
        });
    }
    Ok(rows)
}

/// Looks which objects are there, and returns those; rows that nothing needs are removed.
fn existing(
    store: &mut Store,
    options: &Options,
    dirs: &Dirs,
    rows: &Rows,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<Vec<Recorded>> {
    let mut there = Vec::new();
    let mut gone = BTreeSet::new();
    for row in rows.own.iter().chain(&rows.below) {
        run.interrupt.check("verify")?;
        match dirs.view().has(row.name.as_str()) {
            Ok(true) => there.push(row.clone()),
            Ok(false) => {
                gone.insert(row.name.clone());
            }
            Err(why) => {
                let path = store.dir().store_path(&row.name).display().to_string();
                report.not_checked(path, why);
                continue;
            }
        }
        if !options.contents {
            report.checked += 1;
        }
    }
    let missing = Missing {
        store,
        view: dirs.view(),
        lower: dirs.lower(),
        names: &gone,
    };
    let faults = missing.judge(report)?;
    report.faults.extend(faults);
    if !options.repair && !options.dry_run {
        remove_unneeded(store, report)?;
    }
    Ok(there)
}

/// Removes the rows that nothing needs.
fn remove_unneeded(store: &mut Store, report: &mut Report) -> Result<()> {
    let unneeded = report.faults.iter();
    let unneeded = unneeded.filter(|fault| fault.wrong == Wrong::Unneeded);
    let unneeded: BTreeSet<ObjectName> = unneeded.filter_map(|fault| fault.name.clone()).collect();
    if unneeded.is_empty() {
        return Ok(());
    }
    let removed = remove_rows(store, &unneeded)?;
    let faults = std::mem::take(&mut report.faults);
    for mut fault in faults {
        let name = fault.name.as_ref();
        if fault.wrong != Wrong::Unneeded {
            report.faults.push(fault);
        } else if name.is_some_and(|name| removed.contains(name)) {
            let how = "removing from database...".to_owned();
            report.repaired.push(Repaired { fault, how });
        } else {
            // Somebody refers to it now.
            fault.wrong = Wrong::Disappeared;
            report.faults.push(fault);
        }
    }
    Ok(())
}

/// Has progress expect the reading of `rows`.
fn expect(progress: &Progress, rows: &[Recorded]) {
    // What rows say may be nonsense.
    let sizes = rows.iter().map(|row| row.nar_size);
    let bytes = sizes.fold(0, u64::saturating_add);
    progress
        .total
        .fetch_add(rows.len() as u64, Ordering::Relaxed);
    let more = |total: u64| Some(total.saturating_add(bytes));
    let order = Ordering::Relaxed;
    if progress
        .bytes_total
        .fetch_update(order, order, more)
        .is_err()
    {
        log::debug!("the sum of sizes was not kept");
    }
}

/// Reads the objects that are there.
fn contents(
    store: &mut Store,
    options: &Options,
    dirs: &Dirs,
    there: &[Recorded],
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    expect(run.progress, there);
    let seen = dirs.shown().look_at_all(there, run)?;
    let mut sizes = Vec::new();
    for (row, seen) in there.iter().zip(seen) {
        let path = store.dir().store_path(&row.name).display().to_string();
        let wrong = match seen {
            Seen::Interrupted => continue,
            Seen::Unread(why) => {
                report.not_checked(path, why);
                continue;
            }
            Seen::Gone => {
                report.not_checked(path, "it was removed meanwhile");
                continue;
            }
            Seen::Unfit(why) => Some(Wrong::Unfit(why.to_string())),
            Seen::Hashed(got, size) => {
                report.bytes += size;
                if got == row.nar_hash && row.nar_size == 0 {
                    sizes.push((row.name.clone(), size));
                }
                compare(store, row, got, size)?
            }
        };
        report.checked += 1;
        let name = Some(row.name.clone());
        report
            .faults
            .extend(wrong.map(|wrong| Fault::new(Layer::Merged, path, name, wrong)));
    }
    if !options.dry_run {
        mend::sizes(store, &sizes)?;
    }
    run.interrupt.check("verify")
}

/// Says what is wrong with an object of this digest and size. A row that was written meanwhile counts
/// as it is now.
fn compare(store: &Store, row: &Recorded, got: Sha256, size: u64) -> Result<Option<Wrong>> {
    let expected = row.nar_hash;
    if got != expected {
        let now = store.metadata().path_info(&row.name);
        // A bad row is told as one.
        let same = now.map_or(expected, |now| now.map_or(got, |info| info.nar_hash)) == got;
        return Ok((!same).then_some(Wrong::Modified { expected, got }));
    }
    let told = row.nar_size;
    Ok((told != 0 && told != size).then_some(Wrong::Size {
        expected: told,
        got: size,
    }))
}
