// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lower store's own rows and files.
//!
//! Invariant: nothing of the lower is written; it is only told what is wrong there.

use super::contents::{Objects, Run, Seen};
use super::report::{Fault, Layer, Report, Wrong};
use crate::error::{Error, Result};
use crate::metadata::Recorded;
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
    let valid = source.all_valid()?;
    let mut rows = Vec::new();
    for name in valid {
        run.interrupt.check("verify")?;
        if asked.is_some_and(|asked| !asked.contains(&name)) {
            continue;
        }
        match (source.path_info(&name), contents) {
            (Ok(Some(info)), _) => rows.push(Recorded {
                name,
                nar_hash: info.nar_hash,
                nar_size: info.nar_size,
            }),
            (Ok(None), _) => {}
            (Err(why), _) => {
                let wrong = Wrong::Row(why.to_string());
                report.faults.push(fault(store, &name, wrong));
            }
        }
    }
    if !contents {
        for row in &rows {
            report.checked += 1;
            match objects.has(row.name.as_str()) {
                Ok(true) => {}
                Ok(false) => report
                    .faults
                    .push(fault(store, &row.name, Wrong::Disappeared)),
                Err(why) => report.not_checked(below(&objects, &row.name), why),
            }
        }
        return Ok(());
    }
    super::expect(run.progress, &rows);
    let seen = objects.look_at_all(&rows, run)?;
    for (row, seen) in rows.iter().zip(seen) {
        let wrong = match seen {
            Seen::Interrupted => continue,
            Seen::Hashed(got, size) => {
                report.checked += 1;
                report.bytes += size;
                match got == row.nar_hash {
                    true => continue,
                    false => Wrong::Modified {
                        expected: row.nar_hash,
                        got,
                    },
                }
            }
            Seen::Gone => Wrong::Disappeared,
            Seen::Unfit(why) => Wrong::Unfit(why.to_string()),
            Seen::Unread(why) => {
                report.not_checked(below(&objects, &row.name), why);
                continue;
            }
        };
        report.faults.push(fault(store, &row.name, wrong));
    }
    source.finish()?;
    run.interrupt.check("verify")
}

fn below(objects: &Objects<'_>, name: &ObjectName) -> String {
    objects.path.join(name.as_str()).display().to_string()
}

fn fault(store: &Store, name: &ObjectName, wrong: Wrong) -> Fault {
    let path = store.dir().store_path(name).display().to_string();
    Fault::new(Layer::Lower, path, Some(name.clone()), wrong)
}
