// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore compare`.

use super::args::CompareArgs;
use super::request::{self, Say, Target};
use crate::backend::status::json_path;
use crate::compare::{self, Difference, Options, Progress, Report, Tally};
use crate::error::Result;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the line on the terminal is drawn; short comparisons end without one.
const TICK: Duration = Duration::from_millis(500);

/// Compares; exit code 1 if the views differ.
pub(super) fn compare(wanted: &CompareArgs) -> Result<u8> {
    let request = request::for_compare(&Target {
        words: [wanted.layout.as_deref(), None],
        options: &wanted.store.options,
        say: Say::Warnings,
    })?;
    let ready = compare::prepare(&request)?;
    let options = Options {
        strict: wanted.strict,
        threads: request.threads,
    };
    // It has a thread of its own, of which there may be none before the namespaces are made.
    let progress = Arc::new(Progress::default());
    let bar = bar(&progress);
    let report = ready.compare(options, &progress);
    bar.finish_and_clear();
    let report = report?;
    let shown = wanted.max.unwrap_or(usize::MAX);
    let text = if wanted.json {
        let mut json = report.json(shown);
        let [lower, upper] = ready.layers().map(json_path);
        json["lower"] = lower;
        json["upper"] = upper;
        format!("{json:#}\n")
    } else {
        text(&report, shown)
    };
    super::print(text.as_bytes())?;
    Ok(u8::from(!report.is_equal()))
}

/// One line on a terminal's standard error, nothing elsewhere.
fn bar(progress: &Arc<Progress>) -> ProgressBar {
    type Counter = fn(&Progress) -> &AtomicU64;
    let told = |counter: Counter| {
        let progress = Arc::clone(progress);
        move |_: &ProgressState, line: &mut dyn Write| {
            let count = counter(&progress).load(Ordering::Relaxed);
            // A line that cannot be formatted is not worth an end.
            let _unwritten = write!(line, "{count}");
        }
    };
    let bytes = Arc::clone(progress);
    let style = ProgressStyle::with_template(
        "comparing: {done} of {total} names at the top, {objects} objects, {read}, {elapsed}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_spinner())
    .with_key("done", told(|progress| &progress.done))
    .with_key("total", told(|progress| &progress.total))
    .with_key("objects", told(|progress| &progress.objects))
    .with_key("read", move |_: &ProgressState, line: &mut dyn Write| {
        let _unwritten = write!(line, "{}", size(bytes.bytes.load(Ordering::Relaxed)));
    });
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// A number of bytes as people read it, in Nix's style.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    // Rounding is what is wanted here.
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn text(report: &Report, shown: usize) -> String {
    let mut text: String = report.differences.iter().take(shown).map(line).collect();
    if report.differences.len() > shown {
        text += &format!("... and {} more\n", report.differences.len() - shown);
    }
    if !report.expected.is_empty() {
        text += "deliberate differences, which do not count (docs/semantics.md):\n";
    }
    for (row, tally) in &report.expected {
        text += &format!(
            "  {}: {}\n    here: {}; kernel: {}; why: {}\n",
            row.name,
            counted(tally),
            row.here,
            row.kernel,
            row.why
        );
    }
    if !report.refused.is_empty() {
        text += "both refuse, which is equal:\n";
    }
    for refusal in &report.refused {
        let (operation, errno) = (refusal.operation, &refusal.errno);
        text += &format!("  {operation}: {errno}: {}\n", counted(&refusal.tally));
    }
    text + &summary(report)
}

fn line(difference: &Difference) -> String {
    let what = difference.what.word();
    let what = match &difference.detail {
        Some(detail) => format!("{what} ({detail})"),
        None => what.to_owned(),
    };
    let row = difference.row;
    let row = row.map_or_else(String::new, |row| format!(" [deliberate: {}]", row.name));
    format!(
        "{}: {what}: fuse {}, kernel {}{row}\n",
        path(&difference.path),
        difference.fuse,
        difference.kernel
    )
}

fn counted(tally: &Tally) -> String {
    let examples: Vec<_> = tally.examples.iter().map(|example| path(example)).collect();
    let more = if tally.count > examples.len() as u64 {
        ", ..."
    } else {
        ""
    };
    format!("{} ({}{more})", tally.count, examples.join(", "))
}

/// A path from the top, on one line.
fn path(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    path.escape_ascii().to_string()
}

fn summary(report: &Report) -> String {
    let expected: u64 = report.expected.iter().map(|(_, tally)| tally.count).sum();
    let again = match report.looked_again {
        0 => String::new(),
        count => format!(", {count} changed meanwhile and looked at again"),
    };
    format!(
        "{}: {} objects, {} files, {}, {} questions; {} differences, {expected} deliberate{again}\n",
        if report.is_equal() {
            "equal"
        } else {
            "different"
        },
        report.objects,
        report.files,
        size(report.bytes),
        report.probes,
        report.differences.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_in_the_largest_unit_that_fits() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(395_878), "386.6 KiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
