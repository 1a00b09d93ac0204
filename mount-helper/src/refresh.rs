// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mounted view: have the kernel look at the layers anew, change its attributes, take it away.
//!
//! Invariant: only a merged view is touched, held by descriptor; it is never unmounted to be
//! mounted again, since running processes would stay on the old one. What it is comes from the
//! kernel's list of mounts alone.

use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::identity::mount_id;
use crate::mounts;
use crate::view::Backend;
use crate::words::Attributes;
use rustix::fs::fstatvfs;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount as unmount_call};
use std::path::Path;

/// What was done to refresh a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The kernel has dropped what it had cached.
    Kernel,
    /// Nothing: it is a view of the FUSE driver, which is asked to catch up instead.
    Driver,
}

/// Has the view at `path` show what is in the layers now, as Nix's `remount-hook`.
pub fn refresh(path: &Path) -> Result<Refreshed> {
    let (view, backend) = find(path)?;
    if backend == Backend::Fuse {
        return Ok(Refreshed::Driver);
    }
    apply(&view, current(&view)?)?;
    Ok(Refreshed::Kernel)
}

/// Tells who serves the view at `path`.
pub fn served_by(path: &Path) -> Result<Backend> {
    find(path).map(|(_, backend)| backend)
}

/// Applies the `words` (`ro`, `nosuid`...) to what the view at `path` has. A view of the kernel is
/// refreshed by it; the driver is left to be asked.
pub fn remount(path: &Path, words: &[Vec<u8>]) -> Result<Refreshed> {
    let (view, backend) = find(path)?;
    let before = current(&view)?;
    let mut attributes = before;
    for word in words {
        attributes.apply(word);
    }
    match backend {
        Backend::Kernel => {
            apply(&view, attributes)?;
            Ok(Refreshed::Kernel)
        }
        Backend::Fuse => {
            if attributes != before {
                change(&view, before, attributes)?;
            }
            Ok(Refreshed::Driver)
        }
    }
}

/// Changes the attributes of a mount of FUSE. What belongs to the filesystem stays as the driver
/// mounted it.
fn change(view: &Directory, before: Attributes, attributes: Attributes) -> Result<()> {
    let fault = |word: &str| {
        Fault::usage(format!(
            "remount {}: {word} of a view served by FUSE is settled when it is mounted",
            printable(&view.path)
        ))
        .hint("unmount it (overstore umount) and mount it again")
    };
    let of_filesystem = MountFlags::SYNCHRONOUS | MountFlags::DIRSYNC;
    if (before.flags() ^ attributes.flags()).intersects(of_filesystem) {
        return Err(fault("sync or dirsync"));
    }
    apply_to(view, attributes.flags() | MountFlags::BIND)?;
    // The mount may be writable now, and the filesystem still not.
    match current(view)?.read_only() && !attributes.read_only() {
        true => Err(fault("ro")),
        false => Ok(()),
    }
}

/// Unmounts the view of the kernel at `path`.
pub fn unmount(path: &Path) -> Result<()> {
    let (view, backend) = find(path)?;
    if backend == Backend::Fuse {
        return Err(Fault::usage(format!(
            "unmount {}: its driver must end too",
            printable(path)
        ))
        .hint("use overstore umount"));
    }
    let path = view.path.clone();
    // A descriptor on the mount would keep it busy.
    drop(view);
    unmount_call(&path, UnmountFlags::NOFOLLOW)
        .map_err(|why| Fault::kernel(format!("unmount {}", printable(&path)), why))
}

/// Finds the view at `path`, and who serves it.
fn find(path: &Path) -> Result<(Directory, Backend)> {
    let view = Directory::find("mountpoint", path)?;
    let id = mount_id(&view.fd);
    let mounts = mounts::read()?;
    // By its id, since several mounts may be stacked at one path.
    let here = mounts
        .iter()
        .find(|mount| Some(mount.id) == id && mount.point == view.path);
    match here.and_then(|mount| mount.view) {
        Some(backend) => Ok((view, backend)),
        None => Err(Fault::mount(format!(
            "mountpoint {}: no merged view is mounted there",
            printable(&view.path)
        ))),
    }
}

/// Returns the attributes that the mount has: mount(2) sets all of them anew.
fn current(view: &Directory) -> Result<Attributes> {
    let status = fstatvfs(&view.fd).map_err(|why| {
        Fault::kernel(
            format!("ask for the attributes of {}", printable(&view.path)),
            why,
        )
    })?;
    use rustix::fs::StatVfsMountFlags as Seen;
    let flags = [
        (Seen::RDONLY, MountFlags::RDONLY),
        (Seen::NOSUID, MountFlags::NOSUID),
        (Seen::NODEV, MountFlags::NODEV),
        (Seen::NOEXEC, MountFlags::NOEXEC),
        (Seen::SYNCHRONOUS, MountFlags::SYNCHRONOUS),
        (Seen::NOATIME, MountFlags::NOATIME),
        (Seen::NODIRATIME, MountFlags::NODIRATIME),
        (Seen::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(seen, _)| status.f_flag.contains(*seen))
    .map(|(_, flag)| flag)
    .collect::<MountFlags>();
    let access_times = MountFlags::NOATIME | MountFlags::RELATIME;
    Ok(Attributes::from_flags(if flags.intersects(access_times) {
        flags
    } else {
        flags | MountFlags::STRICTATIME
    }))
}

/// Asks mount(2), since the new interface refuses to reconfigure an overlay.
fn apply(view: &Directory, attributes: Attributes) -> Result<()> {
    apply_to(view, attributes.flags())
}

fn apply_to(view: &Directory, flags: MountFlags) -> Result<()> {
    mount_remount(view.by_descriptor(), flags, "").map_err(|why| {
        let fault = Fault::kernel(format!("remount {}", printable(&view.path)), why);
        match why {
            Errno::PERM => fault.hint(
                "run it as root; what the owner of a mount has forbidden (suid, dev, exec, rw) only \
                 the owner allows again",
            ),
            _ => fault,
        }
    })
}
