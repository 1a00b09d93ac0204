// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lower store's own rows and files.
//!
//! Invariant: nothing of the lower is written; it is only told what is wrong there.

use super::contents::{Objects, Run, Seen};
use super::report::{Fault, Layer, Report, Wrong};
use crate::error::{Error, Kind, Result};
use crate::metadata::{Recorded, Source};
use crate::operations::Store;
use crate::store::ObjectName;
use std::collections::BTreeSet;

/// Checks what the lower has as valid, or those of it that were asked for; with contents if `contents`
/// says so.
pub(super) fn check(
    store: &Store,
    lower: Option<Objects<'_>>,
    asked: Option<&BTreeSet<ObjectName>>,
    contents: bool,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    let path = store.layout().lower.display().to_string();
    let Some(source) = store.metadata().lower() else {
        report.not_checked(path, "the layout does not tell the lower store's metadata");
        return Ok(());
    };
    let Some(objects) = lower else {
        let why = "the lower store directory cannot be opened";
        return Err(Error::on("verify lower store in", path, why));
    };
    let rows = rows(store, source, asked, run, report)?;
    match contents {
        true => read(store, &objects, &rows, run, report)?,
        false => exist(store, &objects, &rows, report),
    }
    source.finish()?;
    run.interrupt.check("verify")
}

/// Reads the lower's rows; bad ones are faults.
fn rows(
    store: &Store,
    source: &dyn Source,
    asked: Option<&BTreeSet<ObjectName>>,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<Vec<Recorded>> {
    let mut rows = Vec::new();
    for name in source.all_valid()? {
        run.interrupt.check("verify")?;
        if asked.is_some_and(|asked| !asked.contains(&name)) {
            continue;
        }
        match source.path_info(&name) {
            Ok(Some(info)) => rows.push(Recorded {
                name,
                nar_hash: info.nar_hash,
                nar_size: info.nar_size,
            }),
            Ok(None) => {}
            Err(why) if why.kind() == Kind::Corrupt => {
                let wrong = Wrong::Row(why.to_string());
                report.faults.push(fault(store, &name, wrong));
            }
            Err(why) => return Err(why),
        }
    }
    Ok(rows)
}

/// Looks whether the objects are there.
fn exist(store: &Store, objects: &Objects<'_>, rows: &[Recorded], report: &mut Report) {
    for row in rows {
        report.checked += 1;
        match objects.has(row.name.as_str()) {
            Ok(true) => {}
            Ok(false) => report
                .faults
                .push(fault(store, &row.name, Wrong::Disappeared)),
            Err(why) => report.not_checked(below(objects, &row.name), why),
        }
    }
}

/// Reads the objects.
fn read(
    store: &Store,
    objects: &Objects<'_>,
    rows: &[Recorded],
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    super::expect(run.progress, rows);
    let seen = objects.look_at_all(rows, run)?;
    for (row, seen) in rows.iter().zip(seen) {
        let wrong = match seen {
            Seen::Interrupted => continue,
            Seen::Hashed(got, size) => {
                report.bytes += size;
                let expected = row.nar_hash;
                (got != expected).then_some(Wrong::Modified { expected, got })
            }
            Seen::Gone => Some(Wrong::Disappeared),
            Seen::Unfit(why) => Some(Wrong::Unfit(why.to_string())),
            Seen::Unread(why) => {
                report.not_checked(below(objects, &row.name), why);
                continue;
            }
        };
        report.checked += 1;
        let wrong = wrong.map(|wrong| fault(store, &row.name, wrong));
        report.faults.extend(wrong);
    }
    Ok(())
}

fn below(objects: &Objects<'_>, name: &ObjectName) -> String {
    objects.path.join(name.as_str()).display().to_string()
}

fn fault(store: &Store, name: &ObjectName, wrong: Wrong) -> Fault {
    let path = store.dir().store_path(name).display().to_string();
    Fault::new(Layer::Lower, path, Some(name.clone()), wrong)
}
