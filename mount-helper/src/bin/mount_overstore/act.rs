// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doing what was asked for: who serves the view, and handing the request to the one who does.

use crate::delegate;
use crate::namespace;
use crate::options::{Backend, NixCheck, joined};
use crate::say;
use crate::words::Wanted;
use overstore_mount::{
    Fault, Markers, Refreshed, Request, Wish, default_work, printable, refresh as renew, remount,
    served_by, view::Backend as View,
};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What every store URL of this type begins with.
const SCHEME: &[u8] = b"local-overlay:";

/// Refreshes the view at `merged`.
pub(crate) fn refresh(merged: &Path) -> Result<u8, Fault> {
    match renew(merged)? {
        Refreshed::Kernel => Ok(0),
        Refreshed::Driver => synchronise(merged, &delegate::find()?),
    }
}

/// Waits until the driver has seen every change.
fn synchronise(merged: &Path, program: &PathBuf) -> Result<u8, Fault> {
    delegate::run(program, &["sync".into(), merged.into()])
}

/// Mounts, remounts or only checks.
pub(crate) fn mount(wanted: &Wanted) -> Result<u8, Fault> {
    if let Some(namespace) = &wanted.namespace {
        namespace::enter(namespace)?;
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
        Backend::Fuse => by_program(wanted, backend, &program(wanted, "the FUSE driver")?),
        // What works here is for the program to find out: it has the driver.
        Backend::Auto => match program(wanted, "finding out whether FUSE works") {
            Ok(program) => by_program(wanted, backend, &program),
            Err(why) => {
                say(&format!("using the kernel's OverlayFS: {why}"));
                by_kernel(wanted)
            }
        },
    }
}

/// Finds the program, which is needed for `what`. In another mount namespace nothing is run: what is
/// found there, the program, its loader and its libraries, belongs to whoever made the namespace,
/// and this process may have power over the whole machine.
fn program(wanted: &Wanted, what: &str) -> Result<PathBuf, Fault> {
    match &wanted.namespace {
        None => delegate::find(),
        Some(_) => Err(Fault::usage(format!(
            "option -N: {what} needs the program overstore, and no program of another mount \
             namespace is run; name backend=kernel, with lowerdir= and upperdir="
        ))),
    }
}

/// Changes a mounted view in place, as far as that can be done.
fn again(wanted: &Wanted) -> Result<u8, Fault> {
    let backend = served_by(&wanted.merged)?;
    let settled = match backend {
        View::Fuse => wanted.options.of_driver.named(),
        View::Kernel => wanted.options.of_driver.first(),
    };
    if let Some(option) = settled {
        let why = not_by_remount(option, backend);
        if !wanted.sloppy {
            return Err(Fault::usage(why));
        }
        tell(wanted, &why);
    }
    // Before anything is changed.
    let driver = match backend {
        View::Fuse => Some(program(wanted, "a view served by FUSE")?),
        View::Kernel => None,
    };
    if wanted.fake {
        tell(wanted, "nothing is remounted");
        return Ok(0);
    }
    match (remount(&wanted.merged, &wanted.options.words)?, driver) {
        (Refreshed::Driver, Some(driver)) => {
            tell(wanted, "served by FUSE: its driver catches up");
            synchronise(&wanted.merged, &driver)
        }
        _ => {
            tell(wanted, &format!("refreshed {}", printable(&wanted.merged)));
            Ok(0)
        }
    }
}

/// Says how an option of the driver can be changed.
fn not_by_remount(option: &str, backend: View) -> String {
    let way = match (backend, option) {
        (View::Kernel, _) => "the kernel backend has none; leave it out",
        (View::Fuse, "repair") => "a remount does not change it; use `overstore repair on`",
        (View::Fuse, "norepair") => "a remount does not change it; use `overstore repair off`",
        (View::Fuse, _) => {
            "a remount does not change it; unmount (overstore umount) and mount again, or pass over \
             it with -s"
        }
    };
    format!("option {option}: {way}")
}

/// A store URL is read by the program, which comes back to the library for the kernel.
fn from_url(wanted: &Wanted, backend: Backend) -> Result<u8, Fault> {
    let program = program(wanted, "a store URL").map_err(|fault| match wanted.namespace {
        Some(_) => fault,
        None => Fault::system(format!(
            "store URL {}: only the program overstore reads it; {fault}; or give \
             lowerdir= and upperdir=",
            printable(&wanted.spec)
        )),
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
