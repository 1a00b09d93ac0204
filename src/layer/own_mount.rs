// SPDX-License-Identifier: MIT OR Apache-2.0
//! A layer's top directory in a mount of the driver's own, in which nothing else is mounted.
//!
//! Invariant: what is mounted inside a layer belongs to the host, not to the layer, and is not
//! shown, as OverlayFS does not show it. A driver that may not mount cannot have this; the
//! openings of `tree` then stop at mountpoints.

use super::Errno;
use crate::sys::mounts::{self, Change};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::{AsFd, OwnedFd};

/// What may be done through the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The kernel refuses every change.
    Read,
    /// What the layer's filesystem allows.
    Write,
}

/// Returns `root` in a mount of its own; as it is where that is not permitted (EPERM, EINVAL for
/// a namespace that must not see what is under a mount) or not known (ENOSYS).
pub(super) fn apart(root: OwnedFd, access: Access) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = match open_tree(&root, c"", flags) {
        Ok(mount) => mount,
        Err(errno) => {
            log::debug!("no mount of its own for a layer: {errno}");
            return root;
        }
    };
    let changes: &[Change] = match access {
        Access::Read => &[Change::Private, Change::ReadOnly, Change::KeepAccessTimes],
        Access::Write => &[Change::Private],
    };
    for &change in changes {
        // Without these the driver's own care is all there is, as for a plain user's.
        if let Err(errno) = mounts::change(mount.as_fd(), change) {
            let errno: Errno = errno;
            log::debug!("{change:?} refused for a layer's mount: {errno}");
        }
    }
    mount
}

#[cfg(test)]
mod tests {
    use super::super::tree::open_root;
    use super::super::{Devices, Lower, Upper};
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    #[test]
    fn numbers_and_watches_are_those_of_the_directory() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("f"), "x").unwrap();
        let (upper, devices) = Upper::open(scratch.path()).unwrap();
        let lower = Lower::open(scratch.path(), Arc::clone(&devices)).unwrap();
        let meta = std::fs::metadata(scratch.path()).unwrap();
        for tree in [&*upper, &*lower] {
            assert_eq!(tree.stat(tree.root().as_fd()).unwrap().ino.0, meta.ino());
            let stat = rustix::fs::fstat(tree.root()).unwrap();
            assert_eq!((stat.st_dev, stat.st_ino), (meta.dev(), meta.ino()));
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let path = format!("/proc/self/fd/{}", lower.root().as_raw_fd());
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
        inotify.add_watch(&*path, events).unwrap();
        std::fs::write(scratch.path().join("new"), "x").unwrap();
        rustix::fs::unlinkat(upper.root(), "f", rustix::fs::AtFlags::empty()).unwrap();
        let seen = inotify.read_events().unwrap();
        let names: Vec<_> = seen.into_iter().filter_map(|event| event.name).collect();
        assert_eq!(names, ["new", "f"]);
    }

    #[test]
    fn the_kernel_itself_keeps_the_lower_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("f"), "x").unwrap();
        let devices = Arc::new(Devices::new((0, 0)));
        let lower = Lower::open(scratch.path(), devices).unwrap();
        let plain = open_root(scratch.path(), "directory").unwrap();
        let write = |dir| rustix::fs::openat(dir, "f", OFlags::RDWR, Mode::empty());
        assert!(write(plain.as_fd()).is_ok());
        let own = open_tree(
            &plain,
            c"",
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH,
        );
        if own.is_ok() {
            assert_eq!(write(lower.root().as_fd()).err(), Some(Errno::ROFS));
        }
    }
}
