// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of hard links, `.links`: what only it still has is removed.
//!
//! Invariant: only the upper's is looked at; the lower's `.links` is the lower's.

use super::removal::{Sides, is_whiteout};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::roots::Interrupt;
use std::os::unix::ffi::OsStrExt;

/// The directory's name.
pub(in crate::operations) const LINKS: &str = ".links";

/// What the pass did.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) removed: u64,
    pub(super) bytes: u64,
    pub(super) behind: bool,
}

/// Removes what has no other link, and whiteouts.
pub(super) fn sweep(layout: &Layout, interrupt: &Interrupt) -> Result<Pass> {
    let mut pass = Pass::default();
    let path = layout.upper.join(LINKS);
    let Some(mut sides) = Sides::open(layout, LINKS)? else {
        return Ok(pass);
    };
    let failed = |why: std::io::Error| Error::on("read", &path, why);
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        interrupt.check("remove unused links")?;
        let name = entry.map_err(failed)?.file_name();
        let Some(found) = sides.stat(name.as_bytes())? else {
            continue;
        };
        if found.st_nlink == 1 || is_whiteout(&found) {
            let freed = sides.remove(name.as_bytes())?;
            pass.removed += 1;
            pass.bytes += freed.bytes;
        }
    }
    pass.behind = sides.is_behind();
    Ok(pass)
}
