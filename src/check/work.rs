// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work directory of the kernel: empty, but while the kernel uses it.

use super::command::{Commands, quoted};
use super::fault::{Fault, Findings};
use super::mounted::Standing;
use crate::backend::mountinfo::Backend;
use crate::layout::Layout;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Checks the work directory of `layout`.
pub(super) fn check(
    layout: &Layout,
    standing: Standing,
    commands: &Commands<'_>,
    found: &mut Findings,
) {
    let work = layout.work_or_default();
    if standing == Standing::View(Backend::Kernel) {
        return;
    }
    match left(&work) {
        Ok(Some(name)) => {
            let path = work.join(name);
            let shown = quoted(&work);
            let command = format!("chmod -R u+rwx {shown} && find {shown} -mindepth 1 -delete");
            found.fault(
                Fault::new(
                    "work-leftover",
                    &path,
                    "left in the kernel's work directory",
                )
                .means("a view of the kernel ended badly; OverlayFS may refuse to mount again")
                .mend(commands.unmounted(&command)),
            );
        }
        Ok(None) => {}
        Err(why) => found.not_checked(&["work-leftover"], &work, why),
    }
}

/// Returns the first thing that does not belong into a work directory at rest.
fn left(work: &Path) -> io::Result<Option<OsString>> {
    let entries = match fs::read_dir(work) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name != "work" && name != "index" {
            return Ok(Some(name));
        }
        if let Some(inside) = fs::read_dir(entry.path())?.next() {
            return Ok(Some(Path::new(&name).join(inside?.file_name()).into()));
        }
    }
    Ok(None)
}
