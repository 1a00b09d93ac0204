// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore check`.

use super::args::CheckArgs;
use super::request;
use crate::backend::probe::{About, Outcome, Probe};
use crate::check::{self, Fault, NotChecked, Report};
use crate::error::Result;
use std::path::Path;

/// Prints what there is to say of a layout, or of the machine alone.
pub(super) fn check(wanted: &CheckArgs) -> Result<u8> {
    let subject = request::for_check(wanted.target.as_deref(), &wanted.store.options)?;
    let report = match &subject {
        Some(subject) => check::check(subject)?,
        None => check::machine(),
    };
    let text = if wanted.json {
        format!("{:#}\n", report.json())
    } else {
        text(&report)
    };
    super::print(text.as_bytes())?;
    Ok(report.exit_code())
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (about, title) in [(About::Machine, "Machine"), (About::Layout, "Layout")] {
        let mut probes = report
            .probes
            .iter()
            .filter(|probe| probe.about == about)
            .peekable();
        if probes.peek().is_some() {
            line(&mut text, format_args!("{title}"));
            probes.for_each(|probe| line(&mut text, format_args!("{}", probed(probe))));
        }
    }
    if !report.choices.is_empty() {
        line(&mut text, format_args!("Choice of backend=auto"));
    }
    for (place, choice) in &report.choices {
        match choice {
            Ok(decision) => line(&mut text, format_args!("  {place:<18} {decision}")),
            Err(why) => line(&mut text, format_args!("  {place:<18} none: {why}")),
        }
    }
    if report.layout.is_none() {
        line(
            &mut text,
            format_args!("Faults\n  no layout was given: see --help"),
        );
        return text;
    }
    line(&mut text, format_args!("Faults"));
    if report.faults.is_empty() {
        line(&mut text, format_args!("  none found"));
    }
    report
        .faults
        .iter()
        .for_each(|fault| told(&mut text, fault));
    if !report.not_checked.is_empty() {
        line(&mut text, format_args!("Not checked"));
        report
            .not_checked
            .iter()
            .for_each(|one| unseen(&mut text, one));
    }
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.push_str(&what.to_string());
    text.push('\n');
}

fn probed(probe: &Probe) -> String {
    let result = match probe.result {
        Outcome::Yes => "yes",
        Outcome::No => "no",
        Outcome::Unknown => "unknown",
    };
    format!(
        "  {:<18} {result:<8} {}\n{:30}{}",
        probe.id, probe.detail, "", probe.means
    )
}

fn told(text: &mut String, fault: &Fault) {
    line(text, format_args!("  {} {}", fault.id, shown(&fault.path)));
    line(text, format_args!("    {}", fault.what));
    for path in &fault.more {
        line(text, format_args!("    also {}", shown(path)));
    }
    if !fault.means.is_empty() {
        line(text, format_args!("    means: {}", fault.means));
    }
    match &fault.mend {
        Some(command) => line(text, format_args!("    mend:  {command}")),
        None => line(
            text,
            format_args!("    mend:  no command alone does: see above"),
        ),
    }
}

fn unseen(text: &mut String, one: &NotChecked) {
    let ids = one.ids.join(", ");
    line(
        text,
        format_args!("  {ids}: {}: {}", shown(&one.path), one.why),
    );
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_control) {
        return text.escape_debug().to_string();
    }
    text
}
