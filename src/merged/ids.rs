// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owners that a user namespace cannot name.
//!
//! Invariant: no attribute shows the overflow id inside a user namespace. The kernel would take
//! it for invalid and refuse changes that the layers allow (EACCES, EOVERFLOW on unlink).

use crate::error::{Error, Result};
use crate::layer::Stat;
use std::fs;

/// Replaces the owner of objects whose own is not mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Squash {
    uid: Option<(u32, u32)>,
    gid: Option<(u32, u32)>,
}

impl Squash {
    /// Reads the id maps of this process.
    pub(super) fn of_this_process() -> Result<Squash> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Ok(Squash {
            uid: squash("uid_map", "overflowuid", uid)?,
            gid: squash("gid_map", "overflowgid", gid)?,
        })
    }

    /// Shows the driver's own ids in place of unmapped ones.
    pub(super) fn apply(&self, stat: &mut Stat) {
        if let Some((overflow, own)) = self.uid
            && stat.uid == overflow
        {
            stat.uid = own;
        }
        if let Some((overflow, own)) = self.gid
            && stat.gid == overflow
        {
            stat.gid = own;
        }
    }
}

/// Returns (overflow id, own id) if not every id is mapped.
fn squash(map: &str, overflow: &str, own: u32) -> Result<Option<(u32, u32)>> {
    let map = read(&format!("/proc/self/{map}"))?;
    if maps_everything(&map) {
        return Ok(None);
    }
    let path = format!("/proc/sys/kernel/{overflow}");
    let id = read(&path)?.trim().parse();
    id.map(|id| Some((id, own)))
        .map_err(|error| Error::on("parse", path, error))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|error| Error::on("read", path, error).hint("/proc must be mounted"))
}

fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_full_map_maps_everything() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n"));
        assert!(!maps_everything("0 0 1\n1 100000 65536\n"));
    }
}
