// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether each row of the upper database has its files and its closure.
//!
//! Invariant: the work is bounded by the upper database; of the lower, single names are asked for.

use super::Subject;
use super::command::{Commands, quoted};
use super::fault::{Fault, Findings};
use super::state::{Lower, Upper};
use super::upper::Walk;
use crate::error::Result;
use crate::metadata::Reader;
use crate::store::StoreDir;
use std::collections::BTreeSet;
use std::path::Path;

/// Checks the rows of `upper`. Without layers that can be read, only the closures.
pub(super) fn check(
    subject: &Subject,
    upper: &Upper,
    lower: &Lower,
    walk: Option<&Walk<'_>>,
    commands: &Commands<'_>,
    found: &mut Findings,
) -> Result<()> {
    let Upper::Rows(reader, rows) = upper else {
        return Ok(());
    };
    if let Some(walk) = walk {
        let gone = files(subject, rows, walk, found);
        let held = held(reader, rows, &gone)?;
        for row in gone {
            found.fault(without_files(row, held.contains(row), commands));
        }
    }
    dangling(reader, lower, commands, found)?;
    closures(reader, rows, lower, commands, found)
}

/// Returns the rows without files.
fn files<'a>(
    subject: &Subject,
    rows: &'a BTreeSet<String>,
    walk: &Walk<'_>,
    found: &mut Findings,
) -> BTreeSet<&'a str> {
    let mut gone = BTreeSet::new();
    let layout = &subject.request.layout;
    let Some(directory) = StoreDir::new(&layout.store_dir) else {
        return gone;
    };
    for row in rows {
        let Some(Ok(name)) = directory.parse(Path::new(row)) else {
            let what = format!(
                "the row {row:?} is no store path of {}",
                layout.store_dir.display()
            );
            found.fault(
                Fault::new("row-without-files", Path::new(row), what)
                    .means("the database is that of another store directory"),
            );
            continue;
        };
        let name = name.as_str().as_bytes();
        // A whiteout is told of as such.
        match walk.top(name) {
            Ok(Some(_)) => continue,
            Err(errno) => {
                found.not_checked(&["row-without-files"], Path::new(row), errno);
                continue;
            }
            Ok(None) => {}
        }
        match walk.lower_has(name) {
            Ok(true) => {}
            Ok(false) => {
                gone.insert(row.as_str());
            }
            Err(why) => found.not_checked(&["row-without-files"], Path::new(row), why),
        }
    }
    gone
}

/// Returns those of `gone` that Nix will not forget, since a row that has files needs them, be it
/// through others of `gone`.
fn held(
    reader: &Reader,
    rows: &BTreeSet<String>,
    gone: &BTreeSet<&str>,
) -> Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    if gone.is_empty() {
        return Ok(held);
    }
    let there = rows.iter().filter(|row| !gone.contains(row.as_str()));
    let mut holders: Vec<String> = there.cloned().collect();
    while let Some(holder) = holders.pop() {
        for path in reader.references(&holder)? {
            if gone.contains(path.as_str()) && held.insert(path.clone()) {
                holders.push(path);
            }
        }
    }
    Ok(held)
}

/// The fault of one row; `held` if rows that have files refer to it.
fn without_files(row: &str, held: bool, commands: &Commands<'_>) -> Fault {
    let mut what = "it has a row, and no files in the upper or the lower".to_owned();
    let command = match held {
        true => commands.repaired(row, true),
        false => commands.verify(&[]),
    };
    if held {
        what += "; others refer to it, so overstore verify does not remove the row. A good copy comes \
                 from the lower, with --from from another store, or Nix fetches or builds it; where \
                 that is impossible, overstore delete --ignore-liveness it together with its overstore \
                 query --referrers-closure";
    }
    let fault = Fault::new("row-without-files", Path::new(row), what)
        .means("Nix takes it for valid, and does not build or fetch it again");
    match command {
        Some(command) => fault.mend(command),
        None => fault,
    }
}

/// Rows of references that lead nowhere.
fn dangling(
    reader: &Reader,
    lower: &Lower,
    commands: &Commands<'_>,
    found: &mut Findings,
) -> Result<()> {
    for path in reader.dangling()? {
        let delete = format!(
            "sqlite3 {} 'DELETE FROM Refs WHERE reference NOT IN (SELECT id FROM ValidPaths)'",
            quoted(reader.path())
        );
        // Which it was, the lower may still know.
        let again = match lower.is_valid(&path) {
            Some(true) => commands.repaired(&path, false),
            _ => None,
        };
        let command = again.unwrap_or(delete);
        found.fault(
            Fault::new(
                "closure",
                Path::new(&path),
                "it refers to a row that does not exist",
            )
            .means("its closure is not known to be complete; a garbage collection may break it")
            .mend(command),
        );
    }
    Ok(())
}

/// References that the lower tells of and the upper does not.
fn closures(
    reader: &Reader,
    rows: &BTreeSet<String>,
    lower: &Lower,
    commands: &Commands<'_>,
    found: &mut Findings,
) -> Result<()> {
    for row in rows {
        if lower.is_valid(row) != Some(true) {
            continue;
        }
        let here: BTreeSet<String> = reader.references(row)?.into_iter().collect();
        let below = lower.references(row);
        let Some(missing) = below.iter().find(|path| !here.contains(*path)) else {
            continue;
        };
        let what = match rows.contains(missing) {
            true => format!("the upper database lacks its reference to {missing}"),
            false => format!("{missing}, to which it refers, is not in the upper database"),
        };
        let mut fault = Fault::new("closure", Path::new(row), what)
            .means("garbage collection and queries take it for an object that needs less");
        fault.mend = commands.repaired(row, false);
        if !found
            .faults
            .iter()
            .any(|other| other.id == fault.id && other.path == fault.path)
        {
            found.fault(fault);
        }
    }
    Ok(())
}
