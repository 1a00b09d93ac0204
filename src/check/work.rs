// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work directory of the kernel: empty, but while the kernel uses it. What is deleted by the
//! printed command is the kernel's own alone; the mount helper's library judges which that is.

use super::command::{Commands, quoted};
use super::fault::{Fault, Findings};
use super::mounted::Standing;
use crate::backend::mountinfo::Backend;
use crate::layout::Layout;
use overstore_mount::{Leftover, leftover};

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
    match leftover(&work) {
        Ok(Some(Leftover::OfKernel(name))) => {
            let shown = quoted(&work);
            let command = format!("chmod -R u+rwx {shown} && find {shown} -mindepth 1 -delete");
            found.fault(
                Fault::new(
                    "work-leftover",
                    &work.join(name),
                    "left in the kernel's work directory",
                )
                .means("a view of the kernel ended badly; OverlayFS may refuse to mount again")
                .mend(commands.unmounted(&command)),
            );
        }
        Ok(Some(Leftover::Foreign(name))) => {
            found.fault(
                Fault::new(
                    "work-foreign",
                    &work.join(name),
                    "in the work directory, and not the kernel's",
                )
                .means(
                    "OverlayFS deletes what is in its work directory, so the kernel backend \
                     refuses this one: move the files away, or name another with -o workdir=",
                ),
            );
        }
        Ok(None) => {}
        Err(why) => found.not_checked(&["work-leftover", "work-foreign"], &work, why),
    }
}
