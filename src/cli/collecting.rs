// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore gc`, `overstore delete`, `overstore optimise`.

use super::args::collecting::{DeleteArgs, GcArgs, OptimiseArgs};
use super::request;
use crate::backend::status::json_path;
use crate::error::{Error, Kind, Result};
use crate::metadata::remove_ballast;
use crate::operations::gc::{self, Limits, Refusal, Step, Survey};
use crate::operations::{Store, optimise};
use crate::roots::Interrupt;
use crate::store::{ObjectName, StoreDir};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// How often the line on the terminal is drawn; short work ends without one.
const TICK: Duration = Duration::from_millis(500);

/// Collects garbage, or tells what there is.
pub(super) fn gc(wanted: &GcArgs) -> Result<u8> {
    let tells = wanted.print_live || wanted.print_dead || wanted.dry_run || wanted.print_roots;
    let mut store = open(wanted.store.as_deref(), !tells)?;
    if wanted.print_roots {
        return print_roots(&store, wanted.json);
    }
    let limits = Limits {
        max_freed: wanted.max_freed,
    };
    if tells {
        let survey = gc::survey(&store, wanted.keep(), limits)?;
        super::print(survey_text(wanted, store.dir(), &survey).as_bytes())?;
        return Ok(0);
    }
    let bar = bar("collecting: {pos} of {len} names, {msg}, {elapsed}");
    let report = gc::collect(&mut store, wanted.keep(), limits, &mut |step| {
        show(&bar, step);
    });
    bar.finish_and_clear();
    finish(report?, wanted.json, json!([]))
}

/// Deletes single objects.
pub(super) fn delete(wanted: &DeleteArgs) -> Result<u8> {
    let mut store = open(wanted.store.as_deref(), !wanted.dry_run)?;
    let request = gc::Request {
        names: request::objects(store.layout(), &wanted.paths)?,
        ignore_liveness: wanted.ignore_liveness,
        dry_run: wanted.dry_run,
    };
    let bar = bar("deleting: {pos} of {len} objects, {msg}, {elapsed}");
    let done = gc::delete(&mut store, &request, &mut |step| show(&bar, step));
    bar.finish_and_clear();
    match done? {
        Ok(report) if wanted.dry_run && !wanted.json => {
            let text: String = report.deleted.iter().map(|path| line(path)).collect();
            super::print(text.as_bytes())?;
            Ok(0)
        }
        Ok(report) => {
            let stayed = report.in_use.clone();
            let refusals = refusals_json(store.dir(), &stayed);
            finish(report, wanted.json, refusals)?;
            Ok(tell_refusals(store.dir(), &stayed))
        }
        Err(refusals) => {
            if wanted.json {
                let nothing = gc::Report::default();
                finish(nothing, true, refusals_json(store.dir(), &refusals))?;
            }
            Ok(tell_refusals(store.dir(), &refusals))
        }
    }
}

/// Drops duplicates and links equal files.
pub(super) fn optimise(wanted: &OptimiseArgs) -> Result<u8> {
    let mut store = open(wanted.store.as_deref(), false)?;
    let bar = bar("optimising: {pos} of {len} objects, {msg}, {elapsed}");
    let report = optimise::optimise(&mut store, &mut |step| match step {
        optimise::Step::Found(count) => bar.set_length(count as u64),
        optimise::Step::At(name) => {
            bar.inc(1);
            bar.set_message(name.display().to_string());
        }
    });
    bar.finish_and_clear();
    let report = report?;
    let paths = |names: &[ObjectName]| -> Vec<Value> {
        names.iter().map(|name| path(store.dir(), name)).collect()
    };
    let text = match wanted.json {
        true => format!(
            "{:#}\n",
            json!({
                "dropped": paths(&report.dropped),
                "dropped-bytes": report.dropped_bytes,
                "differing": paths(&report.differing),
                "linked-files": report.linked,
                "linked-bytes": report.linked_bytes,
                "complete": report.stopped.is_none(),
            })
        ),
        false => format!(
            "{} freed by dropping {} duplicates of the lower store\n\
             {} freed by hard-linking {} files\n",
            mebibytes(report.dropped_bytes),
            report.dropped.len(),
            mebibytes(report.linked_bytes),
            report.linked
        ),
    };
    super::print(text.as_bytes())?;
    match report.stopped {
        Some(why) => Err(why),
        None => Ok(u8::from(!report.differing.is_empty())),
    }
}

/// Opens a store. Who is `deleting` needs it most on a full disk, where there is no room even to open a
/// database, until the ballast is gone; who asks leaves it where it is.
fn open(url: Option<&OsStr>, deleting: bool) -> Result<Store> {
    let layout = request::for_query(url)?;
    let state = layout.state.as_deref().filter(|_| !layout.read_only);
    if let Some(state) = state.filter(|_| deleting) {
        remove_ballast(state);
    }
    Store::open(&layout, Interrupt::on_signals()?)
}

fn print_roots(store: &Store, as_json: bool) -> Result<u8> {
    let roots = gc::roots(store)?;
    let text = match as_json {
        true => {
            let roots = roots.iter().map(|root| {
                json!({
                    "link": json_path(&root.link),
                    "path": path(store.dir(), &root.object),
                })
            });
            format!("{:#}\n", Value::from_iter(roots))
        }
        false => roots
            .iter()
            .map(|root| {
                let object = store.dir().store_path(&root.object);
                format!("{} -> {}\n", shown(&root.link), shown(&object))
            })
            .collect(),
    };
    super::print(text.as_bytes())?;
    Ok(0)
}

fn survey_text(wanted: &GcArgs, dir: &StoreDir, survey: &Survey) -> String {
    if wanted.json {
        let live: Vec<Value> = survey.live.iter().map(|name| path(dir, name)).collect();
        let dead = survey.dead.iter().map(|path| json_path(path));
        let all = json!({
            "live": live,
            "dead": Value::from_iter(dead),
            "dead-bytes": survey.dead_bytes,
        });
        return format!("{all:#}\n");
    }
    if wanted.print_live {
        let live = survey.live.iter();
        return live.map(|name| line(&dir.store_path(name))).collect();
    }
    let mut text: String = survey.dead.iter().map(|path| line(path)).collect();
    if wanted.dry_run {
        text += &format!(
            "{} store paths would be deleted, {} freed\n",
            survey.dead.len(),
            mebibytes(survey.dead_bytes)
        );
    }
    text
}

/// Tells what was done, also where it ended early.
fn finish(report: gc::Report, as_json: bool, refused: Value) -> Result<u8> {
    let text = match as_json {
        true => {
            let deleted = report.deleted.iter().map(|path| json_path(path));
            let in_use = report.in_use.iter().map(|one| one.name.as_str());
            let all = json!({
                "deleted": Value::from_iter(deleted),
                "bytes-freed": report.bytes_freed,
                "rows-dropped": report.rows_dropped,
                "links-removed": report.links_removed,
                "in-use": Value::from_iter(in_use),
                "failed": report.failed,
                "refused": refused,
                "complete": report.stopped.is_none(),
            });
            format!("{all:#}\n")
        }
        false => format!(
            "{} store paths deleted, {} freed\n",
            report.deleted.len(),
            mebibytes(report.bytes_freed)
        ),
    };
    super::print(text.as_bytes())?;
    match report.stopped {
        Some(why) => Err(why),
        None => Ok(0),
    }
}

fn refusals_json(dir: &StoreDir, refusals: &[Refusal]) -> Value {
    let refusals = refusals.iter();
    refusals
        .map(|one| json!({ "path": path(dir, &one.name), "why": one.why }))
        .collect()
}

/// Says why objects were not deleted; returns the exit code.
fn tell_refusals(dir: &StoreDir, refusals: &[Refusal]) -> u8 {
    for one in refusals {
        let what = format!("delete {}", dir.store_path(&one.name).display());
        let error = Error::new(Kind::Negative, what, &one.why);
        super::say(&format!("error: {error}"));
    }
    u8::from(!refusals.is_empty())
}

fn show(bar: &ProgressBar, step: Step<'_>) {
    match step {
        Step::Found(count) => bar.set_length(count as u64),
        Step::Deleting(name) => {
            log::info!("deleting {}", name.display());
            bar.inc(1);
            bar.set_message(name.display().to_string());
        }
    }
}

/// One line on a terminal's standard error, nothing elsewhere.
fn bar(template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

fn path(dir: &StoreDir, name: &ObjectName) -> Value {
    json_path(&dir.store_path(name))
}

fn line(path: &Path) -> String {
    format!("{}\n", shown(path))
}

/// A path on one line.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_control) {
        return text.escape_debug().to_string();
    }
    text
}

/// A number of bytes in the way of Nix.
fn mebibytes(bytes: u64) -> String {
    // Rounding is what is wanted here.
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}
