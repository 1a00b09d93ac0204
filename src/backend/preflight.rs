// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be known to be wrong before anything is mounted.
//!
//! Invariant: every refusal names the directory and the way out; nothing is changed here.

use super::mountinfo::{self, Backend, Entry};
use super::{Request, status};
use crate::error::{Error, Result};
use overstore_mount::same_directory;
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, accessat, flock};
use rustix::io::Errno;
use std::fs::{self, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A mountpoint that was found free, and stays so until this is dropped: drivers that start at
/// the same time take turns.
#[derive(Debug)]
pub struct Mountpoint {
    /// The directory, free of symlinks.
    pub merged: PathBuf,
    _turn: Option<OwnedFd>,
}

/// Checks that `request` can be mounted, and returns its mountpoint.
pub fn check(request: &Request) -> Result<Mountpoint> {
    layers(request)?;
    let named = &request.layout.merged;
    let merged = free_mountpoint(named)?;
    if request.options.nix_check && merged != *named {
        log::warn!(
            "{} is in truth {}: Nix must be given the second",
            named.display(),
            merged.display()
        );
    }
    let turn = take_turn(&merged);
    // Somebody may have had the turn before.
    free_mountpoint(&merged)?;
    unshared_upper(request)?;
    Ok(Mountpoint {
        merged,
        _turn: turn,
    })
}

/// Waits for other drivers that are about to mount on `merged`. Who may not lock the directory
/// mounts all the same.
fn take_turn(merged: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let turn = rustix::fs::open(merged, flags, Mode::empty()).ok()?;
    flock(&turn, FlockOperation::LockExclusive).ok()?;
    Some(turn)
}

/// Checks everything that does not need the upper directory to exist.
pub fn lower(request: &Request) -> Result<()> {
    let layout = &request.layout;
    layout.check_nesting()?;
    if request.options.nix_check {
        layout.nix_check()?;
    }
    let missing = "create it, or correct the lower store's setting";
    directory("lower", &layout.lower, missing)?;
    fs::read_dir(&layout.lower).map(drop).map_err(|why| {
        Error::on("read lower directory", &layout.lower, why)
            .hint("the user of the driver must be allowed to read it")
    })
}

/// Checks the lower, the upper and the work directory.
pub fn layers(request: &Request) -> Result<()> {
    lower(request)?;
    let layout = &request.layout;
    let upper = directory("upper", &layout.upper, "create it: mkdir -p")?;
    if !request.options.attributes.read_only() {
        writable(&layout.upper)?;
    }
    match &layout.work {
        Some(work) => same_filesystem(&upper, &layout.upper, work),
        None => Ok(()),
    }
}

fn directory(which: &str, path: &Path, missing: &str) -> Result<Metadata> {
    let metadata = fs::metadata(path).map_err(|why| {
        let error = Error::on(&format!("open {which} directory"), path, &why);
        match why.kind() {
            std::io::ErrorKind::NotFound => error.hint(missing),
            _ => error,
        }
    })?;
    if metadata.is_dir() {
        return Ok(metadata);
    }
    Err(Error::on(
        &format!("open {which} directory"),
        path,
        "not a directory",
    ))
}

fn writable(upper: &Path) -> Result<()> {
    accessat(
        CWD,
        upper,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .map_err(|why| {
        let hint = match why {
            Errno::ROFS => "its filesystem is read-only: mount with `-o ro`",
            _ => "the user of the driver must own it; or mount with `-o ro`",
        };
        Error::on("write to upper directory", upper, why).hint(hint)
    })
}

fn same_filesystem(upper: &Metadata, upper_path: &Path, work: &Path) -> Result<()> {
    // The kernel creates its own inside it, and refuses a missing one just as we do.
    let metadata = directory("work", work, "create it beside the upper directory")?;
    if metadata.dev() == upper.dev() {
        return Ok(());
    }
    Err(Error::usage(
        format!("workdir={}", work.display()),
        format!("not on the filesystem of upperdir={}", upper_path.display()),
    )
    .hint("put it beside the upper directory, or leave it out: FUSE needs none"))
}

/// Checks that no merged view stands on `merged`, by the list of mounts alone: the driver of one that
/// stands there may hang.
pub fn not_mounted(merged: &Path) -> Result<()> {
    let mounts = mountinfo::read()?;
    match mountinfo::find(&mounts, merged) {
        Some(entry) if entry.merged_view().is_some() => Err(already_mounted(&entry.mount_point)),
        _ => Ok(()),
    }
}

/// Checks that `merged` is a directory on which no merged view stands, and resolves it.
fn free_mountpoint(merged: &Path) -> Result<PathBuf> {
    not_mounted(merged)?;
    let missing = "create it: mkdir -p";
    let found = directory("merged", merged, missing).and_then(|_| {
        fs::canonicalize(merged).map_err(|why| Error::on("resolve merged directory", merged, why))
    });
    found.map_err(|error| match fs::metadata(merged) {
        Err(why) if why.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => Error::on(
            "mount on",
            merged,
            "a FUSE mount whose driver is gone stands there",
        )
        .hint(format!("remove it: overstore umount {}", merged.display())),
        _ => error,
    })
}

/// Refuses to write to an upper directory that another view has: what changes underneath the kernel's
/// is undefined, and a driver takes what is below the top for its own.
fn unshared_upper(request: &Request) -> Result<()> {
    unshared_with(request, |_| true)
}

/// Refuses to write to an upper directory that a view of the kernel has.
pub fn not_the_kernels_upper(request: &Request) -> Result<()> {
    unshared_with(request, |backend| backend == Backend::Kernel)
}

fn unshared_with(request: &Request, counts: impl Fn(Backend) -> bool) -> Result<()> {
    let named = &request.layout.upper;
    if request.options.attributes.read_only() {
        return Ok(());
    }
    let upper =
        fs::canonicalize(named).map_err(|why| Error::on("resolve upper directory", named, why))?;
    let mounts = mountinfo::read()?;
    let shares = |entry: &&Entry| match entry.merged_view() {
        Some((backend, layers)) => counts(backend) && same_directory(&layers.upper, &upper),
        None => false,
    };
    let Some(view) = mounts.iter().find(shares) else {
        return Ok(());
    };
    let at = view.mount_point.display();
    let error = Error::on(
        "write to upper directory",
        &upper,
        format!("in use by the view at {at}"),
    );
    Err(error.hint(format!(
        "unmount it first: overstore umount {at}; or mount with `-o ro`"
    )))
}

fn already_mounted(merged: &Path) -> Error {
    let what = Error::on("mount on", merged, status::holder(merged));
    what.hint(format!(
        "unmount it first: overstore umount {}",
        merged.display()
    ))
}
