// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore check`: what this machine allows, and what is wrong with one layout.
//!
//! Decides what is a fault, what it means and what mends it. Invariants: nothing is changed but what
//! a probe makes and removes again; what could not be looked at is told; nothing hangs on a
//! filesystem that does.
//!
//! * `fault`: what can be found, and its JSON. `command`: the commands that mend it. `order`: what is
//!   told, and mended, first.
//! * `mounted`, `directories`, `work`: the mount and the directories.
//! * `upper`, `objects`: walking the upper, and what its marks and names mean.
//! * `state`, `rows`: the databases, and their rows against the files.

mod command;
mod directories;
mod fault;
mod mounted;
mod objects;
mod order;
mod rows;
mod state;
mod upper;
mod work;

pub use fault::{Fault, NotChecked};

use crate::backend::Request;
use crate::backend::choose::{self, Decision};
use crate::backend::kernel::{self, Choice};
use crate::backend::probe::{self, Probe, Space};
use crate::backend::status::json_path;
use crate::error::{Kind, Result};
use crate::layer::{Lower, Upper};
use crate::layout::{Layout, layer_options};
use command::Commands;
use fault::Findings;
use serde_json::{Value, json};
use std::ffi::OsString;

/// A layout, and how it was told.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The layout and the options of its mount.
    pub request: Request,
    /// What follows `overstore mount` to mount it.
    pub mount_words: Vec<OsString>,
    /// The store URL, if one was given.
    pub url: Option<String>,
}

/// What `overstore check` has to say.
#[derive(Debug)]
pub struct Report {
    /// The layout, if one was given.
    pub layout: Option<Layout>,
    /// Every probe.
    pub probes: Vec<Probe>,
    /// What `backend=auto` would choose for `mount` and for `run`, or why nothing.
    pub choices: Vec<(&'static str, Result<Decision>)>,
    /// Every fault.
    pub faults: Vec<Fault>,
    /// Everything that was not looked at.
    pub not_checked: Vec<NotChecked>,
}

/// Probes the machine alone.
pub fn machine() -> Report {
    Report {
        layout: None,
        probes: probe::machine(),
        choices: Vec::new(),
        faults: Vec::new(),
        not_checked: Vec::new(),
    }
}

/// Probes the machine and checks `subject`.
///
/// # Errors
/// Only what keeps everything from being checked, such as a missing `/proc`.
pub fn check(subject: &Subject) -> Result<Report> {
    let mut probes = probe::machine();
    probes.extend(probe::layout(&subject.request));
    let choice = |space| choose::decide(Choice::Auto, &subject.request, space);
    let choices = vec![("mount", choice(Space::Own)), ("run", choice(Space::Run))];
    let found = faults(&command::mountable(subject))?;
    Ok(Report {
        layout: Some(subject.request.layout.clone()),
        probes,
        choices,
        faults: found.faults,
        not_checked: found.not_checked,
    })
}

fn faults(subject: &Subject) -> Result<Findings> {
    let layout = &subject.request.layout;
    let mut found = Findings::default();
    let standing = mounted::check(subject, &mut found)?;
    let commands = Commands::new(subject, standing);
    let readable = directories::check(subject, standing, &commands, &mut found);
    let upper = state::upper(layout, &commands, &mut found);
    let lower = state::lower(layout, &mut found)?;
    if readable.upper {
        work::check(layout, standing, &commands, &mut found);
        markers_unseen(layout, &mut found);
        let (tree, devices) = Upper::open(&layout.upper)?;
        let lower_tree = match readable.lower {
            true => Some(Lower::open(&layout.lower, devices)?),
            false => None,
        };
        let scan = objects::Scan {
            layout,
            walk: upper::Walk {
                upper: &tree,
                lower: lower_tree.as_deref(),
            },
            upper: &upper,
            lower: &lower,
            commands: &commands,
        };
        scan.run(&mut found);
        rows::check(
            subject,
            &upper,
            &lower,
            Some(&scan.walk),
            &commands,
            &mut found,
        )?;
    } else {
        rows::check(subject, &upper, &lower, None, &commands, &mut found)?;
    }
    lower.finish(layout, &mut found)?;
    if let state::Upper::Rows(reader, _) = upper {
        reader.finish()?;
    }
    order::settle(layout, &mut found.faults);
    Ok(found)
}

/// The kernel shows `trusted.*` to root alone.
fn markers_unseen(layout: &Layout, found: &mut Findings) {
    if !kernel::is_machines_root() {
        const MARKED: &[&str] = &["opaque", "copied-up"];
        let why = "only root is shown attributes trusted.overlay.*; user.overlay.* were looked at";
        found.not_checked(MARKED, &layout.upper, why);
    }
}

/// The command that mounts `layout` by its directories.
fn mount_by_layers(layout: &Layout) -> String {
    let words = [
        "-o".into(),
        layer_options(&layout.lower, &layout.upper),
        layout.merged.clone().into(),
    ];
    format!("overstore mount {}", command::words(words))
}

impl Report {
    /// Returns the exit code: 0 without a fault, 4 with data that contradicts itself, else 1.
    pub fn exit_code(&self) -> u8 {
        let codes = self.faults.iter().map(|fault| fault.kind.exit_code());
        let worst = codes
            .filter(|code| *code == Kind::Corrupt.exit_code())
            .max();
        match (worst, self.faults.is_empty()) {
            (Some(corrupt), _) => corrupt,
            (None, false) => Kind::Negative.exit_code(),
            (None, true) => 0,
        }
    }

    /// Returns the stable JSON form.
    pub fn json(&self) -> Value {
        let layout = self.layout.as_ref().map(|layout| {
            json!({
                "lower": json_path(&layout.lower),
                "upper": json_path(&layout.upper),
                "work": json_path(&layout.work_or_default()),
                "merged": json_path(&layout.merged),
                "state": layout.state.as_ref().map(|path| json_path(path)),
            })
        });
        let choices: serde_json::Map<String, Value> = self
            .choices
            .iter()
            .map(|(place, choice)| {
                let value = match choice {
                    Ok(decision) => {
                        json!({ "backend": decision.backend.word(), "why": decision.why })
                    }
                    Err(why) => json!({ "backend": null, "why": why.to_string() }),
                };
                ((*place).to_owned(), value)
            })
            .collect();
        json!({
            "layout": layout,
            "probes": self.probes,
            "choice": choices,
            "faults": self.faults.iter().map(Fault::json).collect::<Vec<_>>(),
            "not-checked": self.not_checked.iter().map(NotChecked::json).collect::<Vec<_>>(),
        })
    }
}
