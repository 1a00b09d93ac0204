// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore status`.

use super::args::StatusArgs;
use crate::backend::mountinfo::Backend;
use crate::backend::status::{self, State, View};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::path::Path;

/// Prints what is mounted.
pub(super) fn status(wanted: &StatusArgs) -> Result<u8> {
    let (views, json) = match &wanted.merged {
        Some(merged) => {
            let view = status::one(merged)?.ok_or_else(|| {
                Error::new(
                    Kind::Negative,
                    format!("status of {}", merged.display()),
                    "no merged view is mounted there",
                )
            })?;
            let json = view.json();
            (vec![view], json)
        }
        None => {
            let views = status::all()?;
            let json = views.iter().map(View::json).collect();
            (views, json)
        }
    };
    let text = if wanted.json {
        format!("{json:#}\n")
    } else {
        views.iter().map(describe).collect()
    };
    super::print(text.as_bytes())?;
    Ok(0)
}

fn describe(view: &View) -> String {
    format!(
        "{}\n  lower    {}\n  upper    {}\n  served   {}\n  changes  {}\n{}{}",
        view.merged.display(),
        view.lower.display(),
        view.upper.display(),
        served(view),
        changes(view),
        repair(view),
        recording(view),
    )
}

/// What repair hides, if it is on.
fn repair(view: &View) -> String {
    let told = |key| view.driver.as_ref().and_then(|driver| driver.get(key));
    if told("repair") != Some(&Value::Bool(true)) {
        return String::new();
    }
    let count = told("hidden-count").and_then(Value::as_u64).unwrap_or(0);
    let listed = told("hidden").and_then(Value::as_array);
    let listed = listed.map_or(&[][..], Vec::as_slice);
    let mut text = format!("  repair   on, {count} hidden\n");
    for path in listed {
        let path = path
            .as_str()
            .map_or_else(|| path.to_string(), |p| p.escape_debug().to_string());
        text += &format!("           {path}\n");
    }
    if count > listed.len() as u64 {
        text += "           ...\n";
    }
    text
}

/// Whether objects are recorded, if that was asked for.
fn recording(view: &View) -> &'static str {
    let told = |key| view.driver.as_ref().and_then(|driver| driver.get(key));
    let asked = told("options").and_then(|options| options.get("record"));
    match (asked, told("recording")) {
        (Some(Value::Bool(true)), Some(Value::Bool(true))) => "  record   on\n",
        (Some(Value::Bool(true)), _) => "  record   ended: the log says why; mount again\n",
        _ => "",
    }
}

/// When changes of the layers show.
fn changes(view: &View) -> String {
    let told = |key| view.driver.as_ref().and_then(|driver| driver.get(key));
    if view.backend == Backend::Kernel {
        return "show after overstore sync".to_owned();
    }
    match (told("watched"), told("unwatched-because")) {
        (Some(Value::Bool(true)), _) => "show at once".to_owned(),
        (_, Some(Value::String(why))) => format!("show after lower-ttl: {why}"),
        _ => "unknown".to_owned(),
    }
}

fn served(view: &View) -> String {
    let backend = view.backend.word();
    let state = match view.state {
        State::Alive => "alive",
        State::Dead => "dead: remove it with overstore umount",
        State::Hung => "hung: no answer; end it with overstore umount --force",
        State::Unknown => "not to be asked by this user",
    };
    let Some(driver) = &view.driver else {
        return format!("{backend}, {state}");
    };
    let told = |key| driver.get(key).map(Value::to_string).unwrap_or_default();
    let version = driver.get("version").and_then(Value::as_str).unwrap_or("?");
    format!(
        "{backend}, {state}, pid {}, uid {}, version {version}\n  options  {}",
        told("pid"),
        told("uid"),
        told("options"),
    )
}

/// The hidden command behind the state: one driver, asked by a process that may hang.
pub(super) fn probe(merged: &Path) -> Result<u8> {
    match status::probe(merged)? {
        Some(text) => {
            super::print(text.as_bytes())?;
            Ok(0)
        }
        None => Ok(1),
    }
}
