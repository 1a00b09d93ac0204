// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore run`: a command in a private mount namespace with the merged view at the store
//! directory.
//!
//! Decides the order of steps; what each does to the system is in the files beside. Invariants:
//! the command runs in the process that was started (same pid, terminal, signals), and nothing of
//! ours reaches it or the host; this process stays single-threaded until then.

pub(super) mod namespace;
mod root;
mod server;

use super::choose;
use super::kernel::{self, Choice};
use super::lifecycle::first_look;
use super::mountinfo::Backend;
use super::probe::Space;
use super::{MountSpec, Request, direct, preflight, status};
use crate::error::{Error, Result};
pub(super) use root::mount_tmpfs;
use rustix::io::Errno;
use rustix::process::{chdir, getcwd, umask};
pub(super) use server::Server;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What to run, and in which view.
#[derive(Debug, Clone)]
pub struct Run {
    /// The view.
    pub request: Request,
    /// Who may serve it.
    pub choice: Choice,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Called in the driver when it lets go of our standard error, for messages to go elsewhere;
    /// `None` lets it keep that.
    pub left: Option<fn()>,
}

/// Why the command was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code: 125 for failures of ours, 126 cannot execute, 127 not found.
    pub code: u8,
    /// What went wrong.
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { code: 125, error }
    }
}

/// Becomes the command of `run`; returns only if that fails.
pub fn run(run: &Run) -> Failure {
    match enter(run) {
        Ok(()) => execute(&run.command),
        Err(error) => Failure::from(error),
    }
}

/// Makes the namespace and the view in it, and returns to where the caller was.
fn enter(run: &Run) -> Result<()> {
    status::not_hung(&run.request.layout.merged)?;
    preflight::layers(&run.request)?;
    preflight::not_the_kernels_upper(&run.request)?;
    // While the mount table is still the caller's, and the layers are where it says.
    let decision = choose::decide(run.choice, &run.request, Space::Run)?;
    decision.tell();
    let place = getcwd(Vec::new());
    let mask = umask(rustix::fs::Mode::empty());
    namespace::enter()?;
    let store = &run.request.layout.store_dir;
    let result = stage(run, decision.backend);
    umask(mask);
    result?;
    match place {
        Ok(place) => chdir(place.as_c_str()).map_err(|why| {
            Error::on(
                "return to current directory",
                OsStr::from_bytes(place.to_bytes()),
                why,
            )
            .hint(format!(
                "start from another directory than one below {}",
                store.display()
            ))
        }),
        Err(why) => Err(Error::environment("find the current directory", why)
            .hint("it was removed: start from another one")),
    }
}

/// Puts the view at the store directory, and at Nix's real directory where that is another one.
fn stage(run: &Run, backend: Backend) -> Result<()> {
    let store = &run.request.layout.store_dir;
    let (device, server) = match backend {
        Backend::Kernel => (None, None),
        Backend::Fuse => {
            let device = direct::open_device()?;
            let server = Server::start(&device, &run.request, run.left)?;
            (Some(device), Some(server))
        }
    };
    let cover = root::provide(store)?;
    match (device, server) {
        (Some(device), Some(server)) => fuse(run, &device, server)?,
        _ => kernel::overlay(&run.request, store)?,
    }
    also_at(&run.request.layout.merged, store)?;
    cover.close();
    Ok(())
}

fn fuse(run: &Run, device: &OwnedFd, mut server: Server) -> Result<()> {
    let spec = MountSpec::new(&run.request, run.request.layout.store_dir.clone())?;
    direct::mount(device, &spec).map_err(|why| direct::mount_error(&spec, why))?;
    server.serve()?;
    // The kernel takes the top directory for root's until it asks once.
    first_look(&spec.merged).map_err(|why| Error::on("look at", &spec.merged, why))
}

/// Shows the view at `merged` as well, if that exists: Nix's mount check looks there.
fn also_at(merged: &Path, store: &Path) -> Result<()> {
    if merged == store || !merged.is_dir() {
        return Ok(());
    }
    rustix::mount::mount_bind(store, merged)
        .map_err(|why| Error::on("bind the view on", merged, why))
}

/// Executes the command in this process.
fn execute(command: &[OsString]) -> Failure {
    let Some((program, args)) = command.split_first() else {
        return Failure::from(Error::usage("overstore run", "no command"));
    };
    // `exec` gives SIGPIPE its default back, which the Rust runtime had set to be ignored.
    let why = Command::new(program).args(args).exec();
    let (code, why) = match why.kind() {
        io::ErrorKind::NotFound => (127, why),
        // A search path with a directory that this user may not enter hides the true reason.
        io::ErrorKind::PermissionDenied if !in_search_path(program) => {
            (127, io::Error::from(Errno::NOENT))
        }
        _ => (126, why),
    };
    Failure {
        code,
        error: Error::on("run", program, why),
    }
}

/// Whether `program` is a path, or there is such a file in the search path.
fn in_search_path(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/')
        || std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|dir| dir.join(program).symlink_metadata().is_ok())
        })
}
