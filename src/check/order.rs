// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which order faults are told.
//!
//! Invariant: their commands, run as they are printed, do not undo each other: what mounts the layout
//! as it should be is told last, and has no command where it must fail.

use super::fault::Fault;
use crate::layout::Layout;

/// Mended by mounting the view anew, for which everything else must be mended before.
const BY_MOUNTING: &[&str] = &[
    "not-mounted",
    "other-mount",
    "other-layers",
    "driver-dead",
    "driver-hung",
    "check-mount",
    "kernel-options",
];

/// Puts `faults` into order.
pub(super) fn settle(layout: &Layout, faults: &mut [Fault]) {
    let is_last = |fault: &Fault| BY_MOUNTING.contains(&fault.id);
    faults.sort_by_key(is_last);
    if !faults
        .iter()
        .any(|fault| keeps_from_mounting(layout, fault))
    {
        return;
    }
    for fault in faults.iter_mut().filter(|fault| is_last(fault)) {
        fault.mend = None;
        fault.what += "; it cannot be mounted before the faults above are mended";
    }
}

/// Whether the layout cannot be mounted with this fault, and no command mends it.
fn keeps_from_mounting(layout: &Layout, fault: &Fault) -> bool {
    match fault.id {
        "nesting" | "no-answer" | "missing-directory" => fault.mend.is_none(),
        // The lower's databases are not needed for mounting.
        "database-corrupt" | "database-unusable" => Some(&fault.path) == layout.state.as_ref(),
        _ => false,
    }
}
