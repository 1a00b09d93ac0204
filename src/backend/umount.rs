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
    if busy == Busy::Abort && backend == Backend::Fuse && abort(entry)? == Mounted::No {
        return Ok(());
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

/// Whether the mount is still there.
#[derive(PartialEq, Eq)]
enum Mounted {
    Yes,
    No,
}

/// Ends a connection by its control file, which belongs to the one who mounted, or else by a forced
/// unmount, which is left to root of the mount namespace and takes a mount away that nobody uses.
fn abort(entry: &Entry) -> Result<Mounted> {
    let file = format!("{CONNECTIONS}/{}/abort", entry.minor);
    let Err(why) = std::fs::write(&file, "1") else {
        return Ok(Mounted::Yes);
    };
    let flags = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(&entry.mount_point, flags) {
        Ok(()) => Ok(Mounted::No),
        Err(Errno::BUSY) => Ok(Mounted::Yes),
        Err(Errno::PERM) => Err(Error::on("end the connection by", &file, why).hint(format!(
            "as root: mount -t fusectl fusectl {CONNECTIONS}; or leave the wait: umount --lazy"
        ))),
        Err(errno) => Err(explain(&entry.mount_point, errno)),
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
