// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a merged view comes to stand in the file system, who serves it and how it goes away.
//!
//! Decides by which way to mount; leaves to `merged` and `fuse` what the mount shows. Invariant:
//! what is unmounted without being asked for by path is compared by mount id first, so that
//! nobody else's mount goes.

mod ask;
pub mod choose;
pub mod companion;
pub mod daemon;
pub mod direct;
pub mod fusermount;
pub mod kernel;
pub mod lifecycle;
pub mod mountid;
pub mod mountinfo;
pub mod pair;
mod places;
pub mod preflight;
pub mod probe;
pub mod run;
pub mod status;
pub mod umount;

use crate::error::Result;
use crate::layout::{Layout, MountOptions};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// One merged view to be made: the directories, and how it behaves.
#[derive(Debug, Clone)]
pub struct Request {
    /// The directories.
    pub layout: Layout,
    /// How the mount behaves.
    pub options: MountOptions,
    /// Threads that serve requests, at least 1.
    pub threads: usize,
}

/// One FUSE mount as the kernel is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The type, which tells Nix the layers.
    pub fs_type: OsString,
    /// The mountpoint, absolute and without symlinks.
    pub merged: PathBuf,
    /// How the mount behaves.
    pub options: MountOptions,
}

impl MountSpec {
    /// Describes the mount of `request` at `merged`.
    pub fn new(request: &Request, merged: PathBuf) -> Result<Self> {
        Ok(MountSpec {
            fs_type: request.layout.fuse_type()?,
            merged,
            options: request.options.clone(),
        })
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
