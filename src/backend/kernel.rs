// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounting by the kernel's OverlayFS.
//!
//! Decides nothing about the overlay itself: the mount helper's library does, for everybody who
//! mounts one. Invariant: the layers are named to it without symlinks, as the kernel lists them.

use super::{Request, preflight};
use crate::error::{Error, Kind, Result};
use crate::layout::MountOptions;
use overstore_mount::{Fault, Markers, Wish};
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

/// Mounts `request` where its layout says.
pub fn mount(request: &Request) -> Result<()> {
    let mountpoint = preflight::check(request)?;
    overlay(request, &mountpoint.merged)
}

/// Checks `request` without mounting it.
pub fn check(request: &Request) -> Result<()> {
    let mountpoint = preflight::check(request)?;
    let asked = asked(request, &mountpoint.merged)?;
    asked
        .fulfil(Wish::Check, may_make_work(request), &warn)
        .map(drop)
        .map_err(translate)
}

/// Mounts `request` on `merged`.
pub(super) fn overlay(request: &Request, merged: &Path) -> Result<()> {
    let asked = asked(request, merged)?;
    let way = asked
        .fulfil(Wish::Mount, may_make_work(request), &warn)
        .map_err(translate)?;
    log::info!(
        "served by the kernel's OverlayFS ({way:?}), markers {:?}",
        asked.markers
    );
    Ok(())
}

/// Only the default work directory is made: a name that is given may be mistyped.
fn may_make_work(request: &Request) -> bool {
    request.layout.work.is_none()
}

fn warn(line: &str) {
    log::warn!("{line}");
}

/// Has the kernel look at the layers of the view at `merged` anew.
pub(super) fn refresh(merged: &Path) -> Result<()> {
    overstore_mount::refresh(merged)
        .map(drop)
        .map_err(translate)
}

fn asked(request: &Request, merged: &Path) -> Result<overstore_mount::Request> {
    let layout = &request.layout;
    refuse_driver_options(&request.options)?;
    let asked = overstore_mount::Request {
        lower: real("lower", &layout.lower)?,
        upper: real("upper", &layout.upper)?,
        work: real("work", &layout.work_or_default())?,
        merged: real("merged", merged)?,
        markers: Markers::here(),
        attributes: request.options.attributes,
    };
    if request.options.nix_check && layout.check_mount {
        asked.nix_check().map_err(translate)?;
    }
    Ok(asked)
}

/// Whether this process is root of the machine, not of a user namespace: it sees and may write
/// `trusted.*`.
pub fn is_machines_root() -> bool {
    rustix::process::geteuid().is_root() && Markers::here() == Markers::Trusted
}

/// Refuses what only the FUSE driver does.
pub(super) fn refuse_driver_options(options: &MountOptions) -> Result<()> {
    match options.driver_only.first() {
        None => Ok(()),
        Some(option) => Err(Error::usage(
            format!("option {option}"),
            "the kernel backend has none",
        )
        .hint("leave it out, or use `--backend fuse`")),
    }
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

pub(super) fn translate(fault: Fault) -> Error {
    let kind = match fault.kind() {
        overstore_mount::Kind::Usage => Kind::Usage,
        _ => Kind::Environment,
    };
    Error::new(kind, "kernel backend", fault)
}
