// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a merged view away, as its owner asks.
//!
//! Invariant: only a merged view is ever unmounted; when this returns, the mount is gone.

use super::fusermount;
use super::mountinfo::{self, Backend, Entry};
use crate::error::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::path::Path;

/// Where the kernel lists FUSE connections, if a fusectl filesystem is mounted there.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// What to do about users of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Refuse.
    Refuse,
    /// Detach the mount; it ends when the last of them has gone.
    Detach,
    /// End the connection to the driver first: whoever waits for it gets an error. For a driver
    /// that hangs, or was killed and cannot end because somebody waits for it.
    Abort,
}

/// Unmounts the merged view at `spelled`.
pub fn umount(spelled: &Path, busy: Busy) -> Result<()> {
    let mounts = mountinfo::read()?;
    let what = |path: &Path| format!("unmount {}", path.display());
    let Some(entry) = mountinfo::find(&mounts, spelled) else {
        return Err(Error::new(
            Kind::Negative,
            what(spelled),
            "nothing is mounted there",
        ));
    };
    let merged = entry.mount_point.as_path();
    let Some((backend, _)) = entry.merged_view() else {
        let why = format!("not a merged view, but {}", entry.fs_type.display());
        return Err(Error::new(Kind::Negative, what(merged), why).hint("use umount(8)"));
    };
    let mut flags = UnmountFlags::NOFOLLOW;
    if busy == Busy::Abort && backend == Backend::Fuse {
        abort(entry);
    }
    match busy {
        Busy::Refuse => {}
        Busy::Detach | Busy::Abort => flags |= UnmountFlags::DETACH,
    }
    match rustix::mount::unmount(merged, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) if backend == Backend::Fuse => {
            fusermount::unmount(merged, busy != Busy::Refuse)
        }
        Err(why) => Err(explain(merged, why)),
    }
}

/// Ends a connection by its control file, which belongs to the one who mounted, or else by an
/// unmount that may do so, which is left to root of the mount namespace.
fn abort(entry: &Entry) {
    let file = format!("{CONNECTIONS}/{}/abort", entry.minor);
    let Err(why) = std::fs::write(&file, "1") else {
        return;
    };
    let flags = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
    if let Err(Errno::PERM) = rustix::mount::unmount(&entry.mount_point, flags) {
        log::warn!(
            "the connection to the driver could not be ended: {file}: {why}; as root: \
             mount -t fusectl fusectl {CONNECTIONS}"
        );
    }
}

fn explain(merged: &Path, why: Errno) -> Error {
    let error = Error::on("unmount", merged, why);
    match why {
        Errno::BUSY => {
            error.hint("see who with `fuser -vm`; or detach it: overstore umount --lazy")
        }
        Errno::PERM => error.hint("run it as root, or as the one who mounted it"),
        _ => error,
    }
}
