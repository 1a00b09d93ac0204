// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the directories may lie inside which; by what they are, not by their names.
//!
//! The mountpoint may be the lower itself: the layers are opened before the mount covers it.

use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};

/// Refuses directories that lie inside each other where that cannot work.
pub(crate) fn check(
    lower: &Directory,
    upper: &Directory,
    work: &Directory,
    merged: &Directory,
) -> Result<()> {
    for (one, other) in [(lower, upper), (lower, work), (upper, work)] {
        outside(one, other)?;
        outside(other, one)?;
    }
    for layer in [upper, work] {
        outside(merged, layer)?;
        outside(layer, merged)?;
    }
    if merged.identity != lower.identity {
        outside(merged, lower)?;
        outside(lower, merged)?;
    }
    Ok(())
}

/// Refuses `inner` if it is `outer` or lies inside it.
pub(crate) fn outside(inner: &Directory, outer: &Directory) -> Result<()> {
    let relation = if inner.identity == outer.identity {
        "is"
    } else if inner.parents.contains(&outer.identity) {
        "lies inside"
    } else {
        return Ok(());
    };
    Err(Fault::usage(format!(
        "{} {}: {relation} the {} {}",
        inner.role,
        printable(&inner.path),
        outer.role,
        printable(&outer.path)
    ))
    .hint("each needs a directory of its own, none inside another"))
}
