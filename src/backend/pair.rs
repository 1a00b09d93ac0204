// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both backends' views of one layout side by side, to read only.
//!
//! Invariants: neither layer can be changed through what is made here (no upper directory is told
//! to the kernel, the driver is told `ro`, and both layers are bound read-only over themselves
//! first); all of it stands in a private mount namespace and goes with this process, however it
//! ends, and so does the driver.

use super::lifecycle::first_look;
use super::run::{Server, mount_tmpfs, namespace};
use super::{
    MountSpec, Request, best_effort, direct, kernel, mountinfo, places, preflight, status,
};
use crate::error::{Error, Kind, Result};
use crate::layout::MountOptions;
use crate::sys::mounts::{self, Change};
use overstore_mount::{Attributes, Markers, ReadOnly};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the driver may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two views of the same layers.
#[derive(Debug)]
pub struct Pair {
    /// What the driver shows.
    pub fuse: PathBuf,
    /// What the kernel's OverlayFS shows.
    pub kernel: PathBuf,
    /// The lower directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    server: Server,
}

impl Pair {
    /// Moves this process into namespaces of its own and mounts both views there; only while it
    /// has a single thread.
    ///
    /// # Errors
    /// Says which backend cannot run here, why, and what to try.
    pub fn mount(request: &Request) -> Result<Pair> {
        let request = &reading(request);
        preflight::layers(request)?;
        let lower = layer("lower", &request.layout.lower)?;
        let upper = layer("upper", &request.layout.upper)?;
        let scratch = scratch(&lower, &upper)?;
        namespace::enter()?;
        best_effort("leave the current directory", rustix::process::chdir("/"));
        for layer in [&lower, &upper] {
            protect(layer);
        }
        let device = direct::open_device().map_err(|why| cannot("FUSE", &why))?;
        let server = Server::start(&device, request, None)?;
        mount_tmpfs(scratch, 0o755)?;
        let place = |name: &str| {
            let path = scratch.join(name);
            fs::create_dir(&path)
                .map(|()| path)
                .map_err(|why| Error::on("create", scratch, why))
        };
        let mut pair = Pair {
            fuse: place("fuse")?,
            kernel: place("kernel")?,
            lower,
            upper,
            server,
        };
        let spec = MountSpec::new(request, pair.fuse.clone())?;
        direct::mount(&device, &spec)
            .map_err(|why| cannot("FUSE", &direct::mount_error(&spec, why)))?;
        pair.server.serve()?;
        first_look(&pair.fuse).map_err(|why| Error::on("look at", &pair.fuse, why))?;
        pair.mount_kernel()?;
        Ok(pair)
    }

    fn mount_kernel(&self) -> Result<()> {
        let view = ReadOnly {
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            merged: self.kernel.clone(),
            markers: Markers::here(),
        };
        view.mount()
            .map_err(|why| cannot("kernel", &kernel::translate(why)))
    }

    /// Has both views show the layers as they are now: the kernel's is mounted anew, as what it
    /// shows of a layer that changed is undefined. No file of the old one may be open.
    pub fn refresh(&self) -> Result<()> {
        status::sync(&self.fuse)?;
        rustix::mount::unmount(&self.kernel, UnmountFlags::DETACH)
            .map_err(|why| Error::on("unmount", &self.kernel, why))?;
        self.mount_kernel()
    }

    /// Refuses if the driver is gone, which every difference would then be due to.
    pub fn check_alive(&self) -> Result<()> {
        if self.server.is_alive() {
            return Ok(());
        }
        Err(
            Error::environment("compare", "the FUSE driver ended before the comparison did")
                .hint("see the system's log (was it killed, or out of memory?) and compare again"),
        )
    }
}

/// Ends the driver, and waits a moment for its end: nothing of a comparison is left when it is over.
impl Drop for Pair {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.fuse, UnmountFlags::DETACH);
        best_effort("unmount", unmounted);
        self.server.wait_for_end(PATIENCE);
    }
}

/// The request of a driver that is to be compared: how the mount would behave for its users is left
/// out, as the kernel's is mounted without that as well.
fn reading(request: &Request) -> Request {
    let asked = &request.options;
    let mut attributes = Attributes::default();
    attributes.apply(b"ro");
    Request {
        options: MountOptions {
            attributes,
            xattr: true,
            lower_ttl: asked.lower_ttl,
            watch: asked.watch,
            // The views stand where Nix never looks.
            nix_check: false,
            ..MountOptions::default()
        },
        ..request.clone()
    }
}

fn cannot(backend: &str, why: &Error) -> Error {
    let kind = match why.kind() {
        Kind::Usage => Kind::Usage,
        _ => Kind::Environment,
    };
    Error::new(
        kind,
        format!("compare: the {backend} backend cannot run here"),
        why,
    )
}

/// Returns a layer's directory without symlinks; a merged view over it would be compared instead.
fn layer(role: &str, path: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(path)
        .map_err(|why| Error::on(&format!("open {role} directory"), path, why))?;
    let mounts = mountinfo::read()?;
    match mountinfo::topmost(&mounts, &path).and_then(mountinfo::Entry::merged_view) {
        Some(_) => Err(Error::on(
            &format!("open {role} directory"),
            &path,
            "a merged view is mounted over it",
        )
        .hint(format!(
            "unmount it first: overstore umount {}",
            path.display()
        ))),
        None => Ok(path),
    }
}

/// Chooses a directory that is covered, in this process's namespace, by the mountpoints.
fn scratch(lower: &Path, upper: &Path) -> Result<&'static Path> {
    places::apart(&[lower, upper]).ok_or_else(|| {
        Error::environment(
            "find a place for the views",
            format!(
                "none of {} is a directory apart from the layers",
                places::USUAL.join(", ")
            ),
        )
        .hint("create /mnt")
    })
}

/// Binds a layer over itself, read-only and without access times, in this namespace. Where that is
/// refused (a namespace that must not see what is under a mount inside the layer) both backends
/// still have nothing to write by.
fn protect(layer: &Path) {
    if let Err(errno) = bind_over(layer) {
        log::debug!("{} is not bound read-only: {errno}", layer.display());
    }
}

fn bind_over(layer: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = rustix::fs::openat(CWD, layer, flags, Mode::empty())?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount: OwnedFd = open_tree(&here, c"", clone)?;
    mounts::change(mount.as_fd(), Change::ReadOnly)?;
    if let Err(errno) = mounts::change(mount.as_fd(), Change::KeepAccessTimes) {
        log::debug!("access times of {} may move: {errno}", layer.display());
    }
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, c"", &here, c"", both)
}
