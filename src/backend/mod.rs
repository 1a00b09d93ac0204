// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a merged view comes to stand in the file system, who serves it and how it goes away.
//!
//! Decides by which way to mount; leaves to `merged` and `fuse` what the mount shows. Invariant:
//! what is unmounted without being asked for by path is compared by mount id first, so that
//! nobody else's mount goes.

pub mod daemon;
pub mod direct;
pub mod fusermount;
pub mod lifecycle;
pub mod mountid;
pub mod mountinfo;
pub mod preflight;
pub mod run;
pub mod status;
pub mod umount;

use crate::error::Result;
use crate::layout::Layout;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// One merged view to be made: the directories, and how it behaves.
#[derive(Debug, Clone)]
pub struct Request {
    /// The directories.
    pub layout: Layout,
    /// Whether real extended attributes are passed through.
    pub xattr: bool,
    /// How long top-level names that cannot be watched may be trusted.
    pub lower_ttl: Duration,
    /// Whether other users may enter; unset: wherever the system permits it.
    pub allow_other: Option<bool>,
    /// Whether the mount refuses every change.
    pub read_only: bool,
    /// Whether set-user-id bits and device files below the mount have no effect.
    pub nosuid_nodev: bool,
    /// Whether a path that Nix's mount check cannot match is an error.
    pub nix_check: bool,
    /// Threads that serve requests, at least 1.
    pub threads: usize,
}

/// One FUSE mount as the kernel is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The lower store directory, absolute.
    pub lower: PathBuf,
    /// The upper directory, absolute.
    pub upper: PathBuf,
    /// The mountpoint, absolute and without symlinks.
    pub merged: PathBuf,
    /// See [`Request::allow_other`].
    pub allow_other: Option<bool>,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// Whether the mount is `nosuid,nodev`.
    pub nosuid_nodev: bool,
}

impl MountSpec {
    /// Describes the mount of `request` at `merged`.
    pub fn new(request: &Request, merged: PathBuf) -> Self {
        MountSpec {
            lower: request.layout.lower.clone(),
            upper: request.layout.upper.clone(),
            merged,
            allow_other: request.allow_other,
            read_only: request.read_only,
            nosuid_nodev: request.nosuid_nodev,
        }
    }

    /// Returns the subtype that shows Nix the layers: `overstore,lowerdir=L,upperdir=U`.
    pub fn subtype(&self) -> OsString {
        let mut text = OsString::from("overstore,lowerdir=");
        text.push(&self.lower);
        text.push(OsStr::from_bytes(b",upperdir="));
        text.push(&self.upper);
        text
    }
}

/// By which way a mount was made; it goes the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Our own mount call: root, or root of a user namespace.
    Direct,
    /// The setuid program `fusermount3`.
    Fusermount,
}

/// Mounts by the first way that this process may use, and returns the descriptor to serve.
pub fn attach(spec: &MountSpec) -> Result<(OwnedFd, Way)> {
    let device = direct::open_device()?;
    match direct::mount(&device, spec) {
        Ok(()) => Ok((device, Way::Direct)),
        Err(rustix::io::Errno::PERM) => {
            drop(device);
            Ok((fusermount::mount(spec)?, Way::Fusermount))
        }
        Err(why) => Err(direct::mount_error(spec, why)),
    }
}

/// Reports a failure that must not stop what is under way.
fn best_effort<E: std::fmt::Display>(what: &str, result: std::result::Result<(), E>) {
    if let Err(why) = result {
        log::warn!("{what}: {why}");
    }
}
