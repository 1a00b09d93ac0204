// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the upper directory.
//!
//! Invariant: names that a filesystem, the driver or hard links need are not in the list.

use super::links::LINKS;
use crate::error::{Error, Result};
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// How the names begin under which the driver makes directories; it removes them itself.
const OF_THE_DRIVER: &[u8] = b".overstore-new-";
/// How the names of Nix's, and our, half-made hard links begin; the number of a process follows.
const HALF_MADE_LINK: &[u8] = b".tmp-link-";
/// Names that are no garbage.
const KEPT: [&[u8]; 2] = [LINKS.as_bytes(), b"lost+found"];

/// The names in the top of an upper directory.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Names of objects, whether they are valid or not.
    pub(super) objects: BTreeSet<ObjectName>,
    /// Everything else.
    pub(super) others: BTreeSet<OsString>,
}

/// Lists the upper directory.
pub(super) fn of(upper: &Path) -> Result<Inventory> {
    let failed = |why: std::io::Error| Error::on("read upper directory", upper, why);
    let mut found = Inventory::default();
    for entry in std::fs::read_dir(upper).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Ok(object) = ObjectName::parse(name.as_bytes()) {
            found.objects.insert(object);
        } else if !is_kept(name.as_bytes())? {
            found.others.insert(OsString::from_vec(name.into_vec()));
        }
    }
    Ok(found)
}

fn is_kept(name: &[u8]) -> Result<bool> {
    if KEPT.contains(&name) || name.starts_with(OF_THE_DRIVER) {
        return Ok(true);
    }
    let Some(rest) = name.strip_prefix(HALF_MADE_LINK) else {
        return Ok(false);
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Ok(false);
    }
    // Its process is about to move it over a file of an object.
    let process = Path::new("/proc").join(OsStr::from_bytes(&rest[..digits]));
    let lives = process.try_exists();
    lives.map_err(|why| Error::on("look for process", process, why))
}
