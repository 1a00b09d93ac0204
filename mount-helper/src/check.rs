// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a request to directories that are held and fit together.
//!
//! Invariant: nothing is changed here; what the kernel alone can judge is left to it.

use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::identity::mount_id;
use crate::leftovers::{self, Leftover};
use crate::mounts::{self, Mount};
use crate::overlap;
use crate::request::Request;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, FlockOperation, accessat, fgetxattr, flock};
use rustix::io::Errno;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A request that can be mounted as far as can be known before.
#[derive(Debug)]
pub struct Checked {
    pub(crate) request: Request,
    pub(crate) lower: Directory,
    pub(crate) upper: Directory,
    pub(crate) work: Directory,
    pub(crate) merged: Directory,
    /// On what the lower and the upper are, for messages.
    pub(crate) filesystems: [String; 2],
    /// While it is held, others that would mount with this work directory wait.
    pub(crate) turn: Option<OwnedFd>,
}

impl Request {
    /// Finds the directories and checks that they fit together.
    pub fn check(&self) -> Result<Checked> {
        let lower = Directory::find("lower directory", &self.lower)?;
        let upper = Directory::find("upper directory", &self.upper)?;
        let work = Directory::find("work directory", &self.work)?;
        let merged = Directory::find("mountpoint", &self.merged)?;
        overlap::check(&lower, &upper, &work, &merged)?;
        lower.open().map(drop)?;
        self.check_upper(&upper)?;
        check_work(&work, &upper)?;
        check_free(&mounts::read()?, &merged, &upper)?;
        let turn = take_turn(&work)?;
        // Somebody may have had the turn before.
        let mounts = mounts::read()?;
        check_free(&mounts, &merged, &upper)?;
        Ok(Checked {
            request: Request {
                lower: lower.path.clone(),
                upper: upper.path.clone(),
                work: work.path.clone(),
                merged: merged.path.clone(),
                ..*self
            },
            filesystems: [&lower, &upper].map(|layer| filesystem(&mounts, layer)),
            lower,
            upper,
            work,
            merged,
            turn,
        })
    }

    /// The upper must hold markers, and be writable where that is wanted.
    fn check_upper(&self, upper: &Directory) -> Result<()> {
        let opened = upper.open()?;
        let what = format!("upper directory {}", printable(&upper.path));
        let name = self.markers.opaque();
        if let Err(Errno::OPNOTSUPP) = fgetxattr(&opened, name, &mut [0_u8; 8][..]) {
            let why = format!("{what}: its filesystem has no extended attributes {name}");
            return Err(Fault::mount(why).hint(FUSE_CAN));
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        match accessat(&opened, ".", wanted, AtFlags::EACCESS) {
            // OverlayFS wants to write even if nobody else may.
            Err(Errno::ROFS) => {
                let fault = Fault::kernel(format!("write to {what}"), Errno::ROFS);
                Err(fault.hint(READ_ONLY_UPPER))
            }
            Err(why) if !self.attributes.read_only() => {
                Err(Fault::kernel(format!("write to {what}"), why))
            }
            _ => Ok(()),
        }
    }
}

/// What to do about an upper that nobody can write to.
pub(crate) const READ_ONLY_UPPER: &str =
    "OverlayFS takes no upper that is read-only; the FUSE backend can take it (backend=fuse,ro)";

/// What to do where the kernel's OverlayFS cannot serve.
pub(crate) const FUSE_CAN: &str = "the FUSE backend can take it (backend=fuse)";

/// The kernel moves files from the one to the other, and empties the work directory.
fn check_work(work: &Directory, upper: &Directory) -> Result<()> {
    let elsewhere =
        work.identity.device != upper.identity.device || mount_id(&work.fd) != mount_id(&upper.fd);
    let what = format!("work directory {}", printable(&work.path));
    if elsewhere {
        return Err(Fault::usage(format!(
            "{what}: not on the filesystem and mount of the upper directory {}",
            printable(&upper.path)
        ))
        .hint("put it beside the upper directory"));
    }
    match leftovers::inside(work.open()?, &work.path)? {
        Some(Leftover::Foreign(path)) => Err(Fault::usage(format!(
            "{what}: not empty, it has {}",
            printable(path)
        ))
        .hint("name another directory with workdir=: the kernel empties it")),
        _ => Ok(()),
    }
}

/// How long the turn is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for others that are about to mount with the same work directory, and so the same upper;
/// not for ever, as anybody who may read the directory can hold it locked. Asks again and again
/// instead of waiting in another thread: a process that is to enter a namespace, or to become
/// another program, has one alone.
#[expect(
    clippy::disallowed_methods,
    reason = "flock has no bound of its own, and a signal would ask for a handler"
)]
fn take_turn(work: &Directory) -> Result<Option<OwnedFd>> {
    const PAUSE: Duration = Duration::from_millis(20);
    let opened = work.open()?;
    let end = Instant::now() + PATIENCE;
    loop {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(opened)),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => sleep(PAUSE),
            // Held for too long; or a filesystem without locks.
            Err(_) => return Ok(None),
        }
    }
}

impl Checked {
    /// Says that the turn was not got.
    pub(crate) fn no_turn(&self) -> String {
        format!(
            "work directory {}: cannot be locked, or somebody held it locked for {} \
             seconds; going on without: nothing else may mount with it now",
            printable(&self.work.path),
            PATIENCE.as_secs()
        )
    }
}

/// Refuses to cover a merged view, and to give one upper to two views.
fn check_free(mounts: &[Mount], merged: &Directory, upper: &Directory) -> Result<()> {
    let here = mount_id(&merged.fd);
    let covered = mounts
        .iter()
        .find(|mount| Some(mount.id) == here && mount.point == merged.path);
    if let Some(backend) = covered.and_then(|mount| mount.view) {
        return Err(Fault::mount(format!(
            "mountpoint {}: a merged view ({}) is mounted there already",
            printable(&merged.path),
            backend.word()
        ))
        .hint("refresh it with `-o remount`, or unmount it first"));
    }
    // A path that leads nowhere by now is still a name of the same upper if it is spelled alike.
    let same = |mount: &&Mount| {
        mount
            .upper
            .as_deref()
            .is_some_and(|path| path == upper.path || upper.identity.is_at(path))
    };
    if let Some(other) = mounts.iter().find(same) {
        return Err(Fault::mount(format!(
            "upper directory {}: in use by the view at {}",
            printable(&upper.path),
            printable(&other.point)
        ))
        .hint("two views of one upper damage it; bind-mount the first one"));
    }
    Ok(())
}

/// Names the filesystem that `layer` is on.
fn filesystem(mounts: &[Mount], layer: &Directory) -> String {
    let id = mount_id(&layer.fd);
    let mount = mounts.iter().find(|mount| Some(mount.id) == id);
    mount.map_or_else(|| "unknown".to_owned(), |mount| mount.fs_type.clone())
}
