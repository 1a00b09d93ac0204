// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether rows of the upper database have their closures there.
//!
//! Invariant: references are only added as the lower store tells them; what it does not know is told
//! and left.

use super::report::{Fault, Layer, Report, Wrong};
use crate::error::Result;
use crate::metadata::{Registration, Source};
use crate::operations::Store;
use crate::store::ObjectName;
use std::collections::BTreeSet;

/// Looks for references of `rows` that lead nowhere, or that only the lower tells.
pub(super) fn find(store: &Store, rows: &BTreeSet<ObjectName>, report: &mut Report) -> Result<()> {
    let Some(upper) = store.metadata().upper() else {
        return Ok(());
    };
    let path = |name: &ObjectName| store.dir().store_path(name).display().to_string();
    let dangling = upper.dangling()?;
    for name in dangling.intersection(rows) {
        let fault = Fault::new(
            Layer::Merged,
            path(name),
            Some(name.clone()),
            Wrong::Dangling,
        );
        report.faults.push(fault);
    }
    let Some(lower) = store.metadata().lower() else {
        return Ok(());
    };
    for name in rows.difference(&dangling) {
        store.interrupt().check("verify")?;
        // A bad row is told as one.
        let Ok(Some(here)) = upper.path_info(name) else {
            continue;
        };
        let Some(below) = lower.path_info(name)? else {
            continue;
        };
        if let Some(missing) = below.references.difference(&here.references).next() {
            let wrong = Wrong::Closure(missing.clone());
            let fault = Fault::new(Layer::Merged, path(name), Some(name.clone()), wrong);
            report.faults.push(fault);
        }
    }
    Ok(())
}

/// Gives the row of `name` the references that the lower tells; says what was done, or `None` if the
/// lower does not know it.
pub(super) fn mend(store: &mut Store, name: &ObjectName) -> Result<Option<String>> {
    store.write(|change, lower| {
        let Some(lower) = lower else {
            return Ok(None);
        };
        let Some(below) = lower.path_info(name)? else {
            return Ok(None);
        };
        change.forget_dangling(name)?;
        let Some(mut info) = change.path_info(name)? else {
            return Ok(None);
        };
        info.references.extend(below.references);
        change.register_merging(&[Registration::new(info)], lower)?;
        Ok(Some("its references were taken from the lower".to_owned()))
    })
}
