// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doing what was asked for: who serves the view, and handing the request to the one who does.

use crate::delegate;
use crate::options::{Backend, NixCheck, joined};
use crate::say;
use crate::words::Wanted;
use overstore_mount::{
    Fault, Markers, Refreshed, Request, Wish, default_work, printable, refresh as renew, remount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What every store URL of this type begins with.
const SCHEME: &[u8] = b"local-overlay:";

/// Refreshes the view at `merged`.
pub(crate) fn refresh(merged: &Path) -> Result<u8, Fault> {
    match renew(merged)? {
        Refreshed::Kernel => Ok(0),
        Refreshed::Driver => synchronise(merged),
    }
}

/// Waits until the driver has seen every change.
fn synchronise(merged: &Path) -> Result<u8, Fault> {
    delegate::run(&delegate::find()?, &["sync".into(), merged.into()])
}

/// Mounts, remounts or only checks.
pub(crate) fn mount(wanted: &Wanted) -> Result<u8, Fault> {
    if let Some(namespace) = &wanted.namespace {
        enter(namespace)?;
    }
    for option in &wanted.options.forgiven {
        tell(
            wanted,
            &format!("option {}: unknown, forgiven", option.escape_ascii()),
        );
    }
    if wanted.options.remount {
        return again(wanted);
    }
    let backend = wanted.options.backend.unwrap_or(Backend::Auto);
    if wanted.spec.as_bytes().starts_with(SCHEME) {
        return from_url(wanted, backend);
    }
    match backend {
        Backend::Kernel => by_kernel(wanted),
        Backend::Fuse => by_program(wanted, backend, &delegate::find()?),
        // What works here is for the program to find out: it has the driver.
        Backend::Auto => match delegate::find() {
            Ok(program) => by_program(wanted, backend, &program),
            Err(why) => {
                say(&format!("using the kernel's OverlayFS: {why}"));
                by_kernel(wanted)
            }
        },
    }
}

/// Enters the mount namespace that mount(8) was told.
fn enter(namespace: &OsStr) -> Result<(), Fault> {
    let digits = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let file = match namespace.to_str().filter(|_| digits) {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/ns/mnt")),
        None => PathBuf::from(namespace),
    };
    let refused = |why: &dyn std::fmt::Display| {
        Fault::system(format!("enter mount namespace {}: {why}", printable(&file)))
    };
    let opened = fs::File::open(&file).map_err(|why| refused(&why))?;
    move_into_link_name_space(opened.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|why| refused(&why))
}

fn again(wanted: &Wanted) -> Result<u8, Fault> {
    if wanted.fake {
        tell(wanted, "nothing is remounted");
        return Ok(0);
    }
    match remount(&wanted.merged, &wanted.options.words)? {
        Refreshed::Kernel => {
            tell(wanted, &format!("refreshed {}", printable(&wanted.merged)));
            Ok(0)
        }
        Refreshed::Driver => {
            tell(wanted, "served by FUSE: its driver catches up");
            synchronise(&wanted.merged)
        }
    }
}

/// A store URL is read by the program, which comes back to the library for the kernel.
fn from_url(wanted: &Wanted, backend: Backend) -> Result<u8, Fault> {
    let program = delegate::find().map_err(|fault| {
        Fault::system(format!(
            "store URL {}: only the program overstore reads it; {fault}; or give \
             lowerdir= and upperdir=",
            printable(&wanted.spec)
        ))
    })?;
    let mut args = program_args(wanted, backend);
    args.extend([wanted.spec.clone(), wanted.merged.clone().into()]);
    delegated(wanted, &program, &args)
}

fn by_program(wanted: &Wanted, backend: Backend, program: &PathBuf) -> Result<u8, Fault> {
    let mut args = program_args(wanted, backend);
    args.push(wanted.merged.clone().into());
    delegated(wanted, program, &args)
}

fn program_args(wanted: &Wanted, backend: Backend) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["mount".into(), "--backend".into(), backend.word().into()];
    if wanted.fake {
        args.push("--dry-run".into());
    }
    if wanted.sloppy {
        args.push("--sloppy".into());
    }
    if !wanted.options.passed.is_empty() {
        args.extend(["-o".into(), joined(&wanted.options.passed)]);
    }
    args.push("--".into());
    args
}

fn delegated(wanted: &Wanted, program: &PathBuf, args: &[OsString]) -> Result<u8, Fault> {
    let words: Vec<String> = args.iter().map(printable).collect();
    tell(
        wanted,
        &format!("running {} {}", program.display(), words.join(" ")),
    );
    delegate::run(program, args)
}

/// Checks and mounts by the kernel.
fn by_kernel(wanted: &Wanted) -> Result<u8, Fault> {
    let options = &wanted.options;
    if let Some(option) = options.of_driver.first() {
        let why = format!("option {option}: the kernel backend has none; leave it out");
        if !wanted.sloppy {
            return Err(Fault::usage(why));
        }
        tell(wanted, &why);
    }
    let needed = |name: &str, value: &Option<PathBuf>| {
        value
            .clone()
            .ok_or_else(|| Fault::usage(format!("option {name}: missing; add -o {name}=/DIR")))
    };
    let upper = needed("upperdir", &options.upper)?;
    let request = Request {
        lower: needed("lowerdir", &options.lower)?,
        work: options.work.clone().unwrap_or_else(|| default_work(&upper)),
        upper,
        merged: wanted.merged.clone(),
        markers: Markers::here(),
        attributes: options.attributes,
    };
    if options.nix_check == NixCheck::On {
        request.nix_check()?;
    }
    let wish = match wanted.fake {
        true => Wish::Check,
        false => Wish::Mount,
    };
    match request.fulfil(wish, options.work.is_none(), &warn)? {
        None => tell(wanted, "the request is good; nothing is mounted"),
        Some(way) => tell(
            wanted,
            &format!(
                "mounted {} on {} by the kernel's OverlayFS ({way:?}, markers {:?})",
                printable(&request.upper),
                printable(&request.merged),
                request.markers
            ),
        ),
    }
    Ok(0)
}

fn warn(line: &str) {
    say(&format!("warning: {line}"));
}

fn tell(wanted: &Wanted, line: &str) {
    if wanted.verbose {
        say(line);
    }
}
