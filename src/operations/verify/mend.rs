// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which fault is mended how.
//!
//! Invariant: what was not mended stays a fault, with the reason; and one that fails does not keep the
//! others from being mended.

use super::contents::{Run, Seen};
use super::repair::Repairer;
use super::report::{Fault, Layer, Repaired, Report, Wrong};
use super::{Dirs, Options, closure, links as link_files, remove_unneeded};
use crate::error::{Error, Kind, Result};
use crate::metadata::{Recorded, Registration, Source};
use crate::operations::Store;
use crate::store::ObjectName;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the files in `.links`, and removes bad ones if that is wanted.
pub(super) fn links(
    store: &Store,
    options: &Options,
    dirs: &Dirs,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    let removing = options.repair && !options.dry_run;
    let before = report.repaired.len();
    let repairer = Repairer::new(store, dirs, &options.origins, *run);
    let remove = removing.then(|| repairer.links());
    link_files::check(&dirs.upper(), remove, run, report)?;
    match report.repaired.len() > before {
        true => store.refresh_view(),
        false => Ok(()),
    }
}

/// Marks the faults of the lower in whose place the view shows a good object of the upper.
pub(super) fn cover(store: &Store, dirs: &Dirs, run: &Run<'_>, report: &mut Report) -> Result<()> {
    for fault in &mut report.faults {
        if fault.layer == Layer::Lower
            && let Some(name) = &fault.name
        {
            run.interrupt.check("verify")?;
            fault.covered = shows_good(store, dirs, name, run);
        }
    }
    Ok(())
}

/// Whether the upper has the object as its row says, and the view shows that.
fn shows_good(store: &Store, dirs: &Dirs, name: &ObjectName, run: &Run<'_>) -> bool {
    let row = store.metadata().upper().map(|upper| upper.path_info(name));
    let Some(Ok(Some(info))) = row else {
        return false;
    };
    if !matches!(dirs.upper().has(name.as_str()), Ok(true)) {
        return false;
    }
    matches!(dirs.shown().look(name.as_str(), run), Seen::Hashed(hash, _) if hash == info.nar_hash)
}

/// Mends what can be mended of the faults found.
pub(super) fn mend(
    store: &mut Store,
    options: &Options,
    dirs: &Dirs,
    rows: &[Recorded],
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    let mut wanted: BTreeMap<ObjectName, Recorded> = rows
        .iter()
        .map(|row| (row.name.clone(), row.clone()))
        .collect();
    copy_rows_up(store, report, &mut wanted)?;
    let faults = std::mem::take(&mut report.faults);
    let mut left = faults.into_iter();
    let ended = objects(store, options, dirs, &wanted, run, &mut left, report);
    // Those that were not come to, after an interruption.
    report.faults.extend(left);
    ended?;
    of_rows(store, report)?;
    remove_unneeded(store, report)?;
    cover(store, dirs, run, report)
}

/// Gives objects whose lower files are bad a row in the upper, which a good copy there must have.
fn copy_rows_up(
    store: &mut Store,
    report: &mut Report,
    wanted: &mut BTreeMap<ObjectName, Recorded>,
) -> Result<()> {
    let bad = |fault: &&Fault| fault.layer == Layer::Lower && !fault.covered;
    let names = report.faults.iter().filter(bad);
    let names: BTreeSet<ObjectName> = names.filter_map(|fault| fault.name.clone()).collect();
    for name in names {
        if wanted.contains_key(&name) {
            continue;
        }
        let copied = store.write(|change, lower| match lower {
            Some(lower) => {
                change.copy_up([&name], lower)?;
                change.path_info(&name)
            }
            None => Ok(None),
        });
        match copied {
            Ok(Some(info)) => {
                let recorded = Recorded {
                    name: info.name,
                    nar_hash: info.nar_hash,
                    nar_size: info.nar_size,
                };
                wanted.insert(name, recorded);
            }
            Ok(None) => {}
            Err(why) => log::warn!("{why}"),
        }
    }
    Ok(())
}

/// Mends objects; takes faults from `left` as long as it is not interrupted.
fn objects(
    store: &Store,
    options: &Options,
    dirs: &Dirs,
    wanted: &BTreeMap<ObjectName, Recorded>,
    run: &Run<'_>,
    left: &mut impl Iterator<Item = Fault>,
    report: &mut Report,
) -> Result<()> {
    let repairer = Repairer::new(store, dirs, &options.origins, *run);
    let mut done: BTreeSet<ObjectName> = BTreeSet::new();
    loop {
        run.interrupt.check("repair")?;
        let Some(mut fault) = left.next() else {
            return Ok(());
        };
        let mended = match (&fault.wrong, &fault.name) {
            _ if fault.covered => None,
            (Wrong::Shadow(_) | Wrong::Whiteout, Some(name)) => Some(repairer.clear(name)),
            (
                Wrong::Modified { .. }
                | Wrong::Unfit(_)
                | Wrong::Disappeared
                | Wrong::Unneeded
                | Wrong::Lost(_),
                Some(name),
            ) if !done.contains(name) => match wanted.get(name) {
                Some(recorded) => Some(repairer.mend(recorded)),
                None => Some(Err(Error::new(
                    Kind::Negative,
                    "repair",
                    "it has no row in the upper database",
                ))),
            },
            _ => None,
        };
        match mended {
            // The lower stays as it is; that it is covered now is seen afterwards.
            Some(Ok(_)) if fault.layer == Layer::Lower => report.faults.push(fault),
            Some(Ok(how)) => {
                done.extend(fault.name.clone());
                report.repaired.push(Repaired { fault, how });
            }
            Some(Err(_)) if run.interrupt.is_set() => report.faults.push(fault),
            // Its row goes instead.
            Some(Err(_)) if fault.wrong == Wrong::Unneeded => report.faults.push(fault),
            Some(Err(why)) => {
                fault.unmended = Some(why.to_string());
                report.faults.push(fault);
            }
            None => report.faults.push(fault),
        }
    }
}

/// Mends rows.
fn of_rows(store: &mut Store, report: &mut Report) -> Result<()> {
    for mut fault in std::mem::take(&mut report.faults) {
        let mended = match (&fault.wrong, &fault.name) {
            (Wrong::Dangling | Wrong::Closure(_), Some(name)) => closure::mend(store, name),
            (Wrong::Size { got, .. }, Some(name)) => sizes(store, &[(name.clone(), *got)])
                .map(|()| Some("its row has its size now".to_owned())),
            _ => Ok(None),
        };
        match mended {
            Ok(Some(how)) => report.repaired.push(Repaired { fault, how }),
            Ok(None) => report.faults.push(fault),
            Err(why) => {
                fault.unmended = Some(why.to_string());
                report.faults.push(fault);
            }
        }
    }
    Ok(())
}

/// Has rows tell the sizes of archives whose digests are right.
pub(super) fn sizes(store: &mut Store, sizes: &[(ObjectName, u64)]) -> Result<()> {
    if sizes.is_empty() {
        return Ok(());
    }
    store.write(|change, _| {
        for (name, size) in sizes {
            if let Some(mut info) = change.path_info(name)? {
                info.nar_size = *size;
                change.register(&[Registration::new(info)])?;
            }
        }
        Ok(())
    })
}
