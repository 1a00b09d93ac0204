// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore mount` and `overstore umount`.

use super::args::{MountArgs, UmountArgs};
use super::log;
use super::request::{self, Say, Spelling, Target};
use crate::backend::companion::Work;
use crate::backend::daemon::{self, Background, Started};
use crate::backend::mountinfo::Backend;
use crate::backend::probe::Space;
use crate::backend::umount::{self, Busy};
use crate::backend::{Request, choose, kernel, lifecycle, preflight};
use crate::error::{Error, Result};
use crate::metadata;
use crate::operations::record;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// Mounts; a driver in the background unless told otherwise.
pub(super) fn mount(wanted: &MountArgs, args: &[OsString]) -> Result<u8> {
    if wanted.background {
        // The program in the foreground has decided, and has said every warning.
        let (request, spelling) = asked(wanted, Say::Nothing)?;
        let background = Background::enter(log::leave_terminal)?;
        return serve(&prepared(request, spelling)?, Some(background));
    }
    let (request, spelling) = asked(wanted, Say::Warnings)?;
    preflight::not_mounted(&request.layout.merged)?;
    let decision = choose::decide(wanted.backend.into(), &request, Space::Own)?;
    if decision.backend == Backend::Fuse {
        record::check(&request)?;
    }
    if wanted.dry_run {
        match decision.backend {
            Backend::Kernel => kernel::check(&request)?,
            Backend::Fuse => preflight::check(&request).map(drop)?,
        }
        super::print(format!("{decision}\n").as_bytes())?;
        return Ok(0);
    }
    decision.tell();
    match decision.backend {
        Backend::Kernel => kernel::mount(&prepared(request, spelling)?).map(|()| 0),
        Backend::Fuse if wanted.foreground => serve(&prepared(request, spelling)?, None),
        Backend::Fuse => start_background(args),
    }
}

/// Serves by FUSE until it is unmounted, and records meanwhile if that is wanted.
fn serve(request: &Request, background: Option<Background>) -> Result<u8> {
    let recorder: Option<Work<'_>> = match request.options.record {
        true => Some(Box::new(|course| record::record(&request.layout, course))),
        false => None,
    };
    lifecycle::serve(request, background, recorder)?;
    Ok(0)
}

fn asked(wanted: &MountArgs, say: Say) -> Result<(Request, Spelling)> {
    let (mut request, spelling) = request::for_mount(&Target {
        words: [wanted.target.as_deref(), wanted.merged.as_deref()],
        options: &wanted.store.options,
        say,
    })?;
    if wanted.sloppy {
        request.options.driver_only.clear();
    }
    Ok((request, spelling))
}

/// Makes for a store URL what Nix would create.
fn prepared(request: Request, spelling: Spelling) -> Result<Request> {
    if spelling == Spelling::Url {
        create_directories(&request)?;
        if !request.options.attributes.read_only() {
            let prepared = metadata::prepare_state(&request.layout)?;
            ::log::info!("state: {prepared:?}");
        }
    }
    Ok(request)
}

/// Runs this program again with the same arguments, as the one that serves.
fn start_background(args: &[OsString]) -> Result<u8> {
    let mut words = args.iter().cloned();
    let name = words.next().unwrap_or_else(|| "overstore".into());
    let mut again: Vec<OsString> = words.collect();
    let at = again
        .iter()
        .position(|word| word == "mount")
        .ok_or_else(|| Error::usage("overstore mount", "the word `mount` is missing"))?;
    again.insert(at + 1, "--background".into());
    match daemon::start(&name, &again)? {
        Started::Mounted => Ok(0),
        Started::Failed(code) => Ok(code),
    }
}

/// Unmounts.
pub(super) fn umount(wanted: &UmountArgs) -> Result<u8> {
    let busy = match (wanted.force, wanted.lazy) {
        (true, _) => Busy::Abort,
        (false, true) => Busy::Detach,
        (false, false) => Busy::Refuse,
    };
    umount::umount(&wanted.merged, busy)?;
    Ok(0)
}

/// Creates what Nix creates when it opens a store (but for its state), and the upper directory.
fn create_directories(request: &Request) -> Result<()> {
    let layout = &request.layout;
    // Nothing is created for a layout that cannot work.
    preflight::lower(request)?;
    create_upper(&layout.upper)?;
    preflight::layers(request)?;
    // A mountpoint that is there is not looked at: its driver may be dead or hang.
    match fs::create_dir_all(&layout.merged) {
        Err(why) if why.kind() == io::ErrorKind::NotFound || is_refusal(&why) => {
            Err(Error::on("create merged directory", &layout.merged, why))
        }
        _ => Ok(()),
    }
}

fn is_refusal(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Creates the upper directory where only it is missing: a whole missing path is a mistake.
pub(super) fn create_upper(upper: &Path) -> Result<()> {
    match fs::create_dir(upper) {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => {
            Err(Error::on("create upper directory", upper, why).hint("create it: mkdir -p"))
        }
    }
}
