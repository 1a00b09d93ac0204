// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore verify`.

use super::args::verify::VerifyArgs;
use super::request;
use crate::error::Result;
use crate::layout::Layout;
use crate::operations::Store;
use crate::operations::verify::{self, Options, Origin, Progress, Report};
use crate::roots::Interrupt;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::ffi::OsString;
use std::fmt::Write;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How often the line on the terminal is drawn; short work ends without one.
const TICK: Duration = Duration::from_millis(500);

/// Verifies; exit code 1 if faults are left.
pub(super) fn verify(wanted: &VerifyArgs) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let threads = wanted.threads.map_or_else(
        || available_parallelism().map_or(1, NonZero::get),
        |threads| threads.get().into(),
    );
    let options = Options {
        only: request::objects(&layout, &wanted.paths)?,
        contents: wanted.check_contents,
        repair: wanted.repair,
        origins: origins(&layout, &wanted.from)?,
        lower: wanted.lower,
        dry_run: wanted.dry_run,
        threads,
    };
    let mut store = Store::open(&layout, Interrupt::on_signals()?)?;
    let progress = Arc::new(Progress::default());
    let bar = bar(&progress);
    let report = verify::verify(&mut store, &options, &progress);
    bar.finish_and_clear();
    tell(&report);
    if wanted.json {
        super::print(format!("{:#}\n", report.json()).as_bytes())?;
    }
    super::say(&summary(&report));
    Ok(report.exit_code())
}

fn origins(layout: &Layout, urls: &[OsString]) -> Result<Vec<Origin>> {
    let env = request::surroundings()?;
    let mut origins = Vec::new();
    for url in urls.iter().filter(|url| *url != "lower") {
        let (origin, warnings) = Origin::open(url, layout, &env)?;
        for warning in warnings {
            super::say(&format!("warning: {warning}"));
        }
        origins.push(origin);
    }
    Ok(origins)
}

/// One line for each thing that was found.
fn tell(report: &Report) {
    for repaired in &report.repaired {
        super::say(&format!("{}, {}", repaired.fault.line(), repaired.how));
    }
    for fault in &report.faults {
        let mark = if fault.covered { "warning" } else { "error" };
        super::say(&format!("{mark}: {}", fault.line()));
    }
    for left in &report.not_checked {
        super::say(&format!(
            "warning: not checked: {}: {}",
            left.path, left.why
        ));
    }
    if let Some(why) = &report.ended {
        super::say(&format!("error: {why}"));
    }
}

fn summary(report: &Report) -> String {
    let left = report.faults.iter().filter(|fault| !fault.covered).count();
    format!(
        "{}{} objects checked, {} read; {left} faults left, {} mended, {} not checked",
        if report.ended.is_some() {
            "ended early: "
        } else {
            ""
        },
        report.checked,
        super::compare::size(report.bytes),
        report.repaired.len(),
        report.not_checked.len()
    )
}

/// One line on a terminal's standard error, nothing elsewhere.
fn bar(progress: &Arc<Progress>) -> ProgressBar {
    let (since, progress) = (Instant::now(), Arc::clone(progress));
    let style = ProgressStyle::with_template("verifying: {state}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("state", move |_: &ProgressState, line: &mut dyn Write| {
            // A line that cannot be formatted is not worth an end.
            let _unwritten = write!(line, "{}", state(&progress, since.elapsed()));
        });
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// How far it is, how fast, and for how long yet.
fn state(progress: &Progress, spent: Duration) -> String {
    let read = progress.bytes.load(Ordering::Relaxed);
    let all = progress.bytes_total.load(Ordering::Relaxed).max(read);
    let (done, total) = (
        progress.done.load(Ordering::Relaxed),
        progress.total.load(Ordering::Relaxed),
    );
    let size = super::compare::size;
    let mut text = format!("{done} of {total} objects, {} of {}", size(read), size(all));
    let each = read.checked_div(spent.as_secs());
    if let Some(rate) = each.filter(|rate| *rate > 0) {
        text += &format!(", {}/s, {} s left", size(rate), (all - read) / rate);
    }
    text
}
