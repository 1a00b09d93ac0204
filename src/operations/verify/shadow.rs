// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in the upper without a row, and hides a valid object of the lower.
//!
//! Such a thing is read as if it were the object: an add or a repair that was interrupted leaves it.
//! Invariant: only what the lower knows as valid is called hidden; garbage is for the collector.

use super::contents::{Objects, Run, Seen};
use super::report::{Fault, Layer, Report, Wrong};
use crate::error::{Error, Result};
use crate::operations::Store;
use crate::store::ObjectName;
use rustix::fs::{AtFlags, FileType};
use std::collections::BTreeSet;

/// Whether the name in the upper is a whiteout.
pub(super) fn is_whiteout(upper: &Objects<'_>, name: &str) -> Result<bool> {
    let stat = rustix::fs::statat(upper.dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|why| Error::on("look at", upper.path.join(name), why))?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(device && stat.st_rdev == 0)
}

/// Looks for such names; `rows` are those of the upper database. Contents are compared if `run` is
/// given.
pub(super) fn find(
    store: &Store,
    upper: &Objects<'_>,
    view: &Objects<'_>,
    rows: &BTreeSet<ObjectName>,
    run: Option<&Run<'_>>,
    report: &mut Report,
) -> Result<()> {
    let Some(lower) = store.metadata().lower() else {
        return Ok(());
    };
    let failed = |why| Error::on("list", upper.path, why);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(upper.dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = ObjectName::parse(entry.file_name().to_bytes())
            && !rows.contains(&name)
        {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        store.interrupt().check("verify")?;
        let path = store.dir().store_path(&name).display().to_string();
        let Some(info) = lower.path_info(&name)? else {
            continue;
        };
        let wrong = match is_whiteout(upper, name.as_str()) {
            Ok(true) => Wrong::Whiteout,
            Ok(false) => {
                let mut same = None;
                match run.map(|run| view.look(name.as_str(), run)) {
                    Some(Seen::Hashed(hash, _)) => same = Some(hash == info.nar_hash),
                    Some(Seen::Unfit(_)) => same = Some(false),
                    Some(Seen::Unread(why)) => report.not_checked(path.as_str(), why),
                    Some(Seen::Gone | Seen::Interrupted) | None => {}
                }
                Wrong::Shadow(same)
            }
            Err(why) => {
                report.not_checked(path, why);
                continue;
            }
        };
        report
            .faults
            .push(Fault::new(Layer::Merged, path, Some(name), wrong));
    }
    Ok(())
}
