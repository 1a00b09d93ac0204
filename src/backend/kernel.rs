// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounting by the kernel's OverlayFS, and choosing between it and FUSE.
//!
//! Decides nothing about the overlay itself: the mount helper's library does, for everybody who
//! mounts one. Invariant: the layers are named to it without symlinks, as the kernel lists them.

use super::{Request, direct, preflight};
use crate::error::{Error, Kind, Result};
use overstore_mount::{Attributes, Fault, Markers, create_work};
use rustix::process::geteuid;
use std::fs;
use std::path::{Path, PathBuf};

/// Which backend may serve the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// FUSE wherever it works, else the kernel.
    Auto,
    /// FUSE alone.
    Fuse,
    /// The kernel's OverlayFS alone.
    Kernel,
}

/// Decides who shall serve; `Auto` says why where it is not FUSE. A plain user cannot ask the kernel,
/// and is better told why FUSE does not work.
pub fn chosen(choice: Choice) -> Choice {
    if choice != Choice::Auto {
        return choice;
    }
    match direct::open_device() {
        Ok(_) => Choice::Fuse,
        Err(_) if !geteuid().is_root() => Choice::Fuse,
        Err(why) => {
            log::warn!("using the kernel's OverlayFS, as FUSE does not work here: {why}");
            Choice::Kernel
        }
    }
}

/// Mounts `request` where its layout says.
pub fn mount(request: &Request) -> Result<()> {
    let mountpoint = preflight::check(request)?;
    overlay(request, &mountpoint.merged)
}

/// Checks `request` without mounting it.
pub fn check(request: &Request) -> Result<()> {
    let mountpoint = preflight::check(request)?;
    let (work, created) = work(request)?;
    let result = asked(request, &work, &mountpoint.merged)
        .and_then(|overlay| overlay.check().map(drop).map_err(translate));
    forget(&work, created);
    result
}

/// Mounts `request` on `merged`.
pub(super) fn overlay(request: &Request, merged: &Path) -> Result<()> {
    let (work, created) = work(request)?;
    let result = asked(request, &work, merged).and_then(|overlay| {
        let mounted = overlay.check().and_then(|checked| checked.mount());
        let way = mounted.map_err(translate)?;
        log::info!(
            "served by the kernel's OverlayFS ({way:?}), markers {:?}",
            overlay.markers
        );
        Ok(())
    });
    if result.is_err() {
        forget(&work, created);
    }
    result
}

/// Has the kernel look at the layers of the view at `merged` anew.
pub(super) fn refresh(merged: &Path) -> Result<()> {
    overstore_mount::refresh(merged)
        .map(drop)
        .map_err(translate)
}

/// Returns the work directory, and whether it was created.
fn work(request: &Request) -> Result<(PathBuf, bool)> {
    let work = real("work", &request.layout.work_or_default())?;
    let created = create_work(&work).map_err(translate)?;
    Ok((work, created))
}

/// Removes a work directory that was created for nothing.
fn forget(work: &Path, created: bool) {
    if created {
        super::best_effort("remove the work directory", fs::remove_dir(work));
    }
}

fn asked(request: &Request, work: &Path, merged: &Path) -> Result<overstore_mount::Request> {
    let layout = &request.layout;
    if request.options.repair {
        return Err(Error::usage("option repair", "the kernel backend has none")
            .hint("leave it out, or use `--backend fuse`"));
    }
    let asked = overstore_mount::Request {
        lower: real("lower", &layout.lower)?,
        upper: real("upper", &layout.upper)?,
        work: work.to_owned(),
        merged: real("merged", merged)?,
        markers: Markers::here(),
        attributes: attributes(request),
    };
    if request.options.nix_check && layout.check_mount {
        asked.nix_check().map_err(translate)?;
    }
    Ok(asked)
}

/// Returns `path` without symlinks; its last name need not exist.
fn real(role: &str, path: &Path) -> Result<PathBuf> {
    let resolved = match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(why), Some(parent), Some(name)) if why.kind() == std::io::ErrorKind::NotFound => {
            fs::canonicalize(parent).map(|parent| parent.join(name))
        }
        (result, ..) => result,
    };
    let resolved =
        resolved.map_err(|why| Error::on(&format!("open {role} directory"), path, why))?;
    if resolved != path {
        log::warn!(
            "{} is in truth {}: Nix must be given the second",
            path.display(),
            resolved.display()
        );
    }
    Ok(resolved)
}

fn attributes(request: &Request) -> Attributes {
    use crate::layout::Atime;
    let options = &request.options;
    let mut attributes = Attributes::default();
    for (wanted, word) in [
        (options.read_only, "ro"),
        (options.suid, "suid"),
        (options.dev, "dev"),
        (!options.exec, "noexec"),
        (options.sync, "sync"),
        (options.dirsync, "dirsync"),
        (options.atime == Atime::Noatime, "noatime"),
        (options.atime == Atime::Strictatime, "strictatime"),
        (options.nodiratime, "nodiratime"),
    ] {
        if wanted {
            attributes.apply(word.as_bytes());
        }
    }
    attributes
}

fn translate(fault: Fault) -> Error {
    let kind = match fault.kind() {
        overstore_mount::Kind::Usage => Kind::Usage,
        _ => Kind::Environment,
    };
    Error::new(kind, "kernel backend", fault)
}
