// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a request to directories that are held and fit together.
//!
//! Invariant: nothing is changed here; what the kernel alone can judge is left to it.

use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::identity::mount_id;
use crate::mounts::{self, Mount};
use crate::overlap;
use crate::request::Request;
use rustix::fs::{Access, AtFlags, Dir, accessat, fgetxattr};
use rustix::io::Errno;

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
        if self.attributes.read_only() {
            return Ok(());
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        accessat(&opened, ".", wanted, AtFlags::EACCESS).map_err(|why| {
            let fault = Fault::kernel(format!("write to {what}"), why);
            match why {
                Errno::ROFS => fault.hint("its filesystem is read-only: mount with `-o ro`"),
                _ => fault,
            }
        })
    }
}

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
    let unreadable = |why| Fault::kernel(format!("read {what}"), why);
    for entry in Dir::read_from(work.open()?).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // What the kernel itself leaves there, and takes up again.
        let own: [&[u8]; 4] = [b".", b"..", b"work", b"index"];
        let name = entry.file_name().to_bytes();
        if !own.contains(&name) {
            return Err(
                Fault::usage(format!("{what}: not empty, it has {}", name.escape_ascii()))
                    .hint("name a directory that nothing else uses"),
            );
        }
    }
    Ok(())
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
    let same = |mount: &&Mount| mount.upper.as_ref() == Some(&upper.path);
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
