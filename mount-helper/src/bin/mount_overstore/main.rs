// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mount.overstore`, which mount(8) calls for the type `overstore`.
//!
//! Decides nothing about mounting but who does it; the library mounts by the kernel, the program
//! `overstore` by FUSE. Invariant: the exit code is one of mount(8)'s, an error is one line, and
//! nothing is taken from the environment.

mod act;
mod delegate;
mod namespace;
mod options;
mod words;

use overstore_mount::Fault;
use rustix::fs::Mode;
use rustix::process::umask;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use words::Command;

/// Exit code for what must not happen.
const INTERNAL: u8 = 4;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // What is created is for others to find as usual, whoever calls.
    umask(Mode::from_raw_mode(0o022));
    let code = std::panic::catch_unwind(|| run(&args)).unwrap_or(INTERNAL);
    ExitCode::from(code)
}

fn run(args: &[OsString]) -> u8 {
    let done = overstore_mount::refuse_setuid()
        .and_then(|()| words::read(args))
        .and_then(|command| match command {
            Command::Help => print(HELP),
            Command::Version => print(concat!("mount.overstore ", env!("CARGO_PKG_VERSION"), "\n")),
            Command::Refresh(merged) => act::refresh(&merged),
            Command::Mount(wanted) => act::mount(&wanted),
        });
    match done {
        Ok(code) => code,
        Err(fault) => {
            say(&format!("error: {fault}"));
            fault.exit_code()
        }
    }
}

/// Writes one line to standard error. Nobody is left to be told when that fails.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "mount.overstore: {line}"));
}

fn print(text: &str) -> Result<u8, Fault> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::system(format!("write to standard output: {why}")))
        }
        _ => Ok(0),
    }
}

const HELP: &str = "\
Mounts the merged view of a Nix local overlay store

Usage: mount.overstore SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
       mount.overstore --refresh DIR

  SPEC  overlay, none or any other word; or a store URL (local-overlay:...)
  DIR   the mountpoint
  -s    forgives unknown options, and those that the chosen backend does not have
  -f    checks everything, mounts nothing
  -n    nothing: no list of mounts is ever written
  -v    says what it does
  -N    mounts in the mount namespace of this process id or file, by the kernel alone: no
        program of there is run
  -t    the type, as mount(8) tells it: overstore, overstore.kernel, overstore.fuse
  -o    options, comma-separated; a backslash before , : and \\ of a path:
        lowerdir=DIR, upperdir=DIR  the layers
        workdir=DIR                 for the kernel, beside the upper (UPPER.work)
        backend=auto|fuse|kernel    who serves the view; auto: FUSE wherever it works, as
                                    `overstore mount` finds out
        nix-check=off               mount although Nix's check-mount cannot match the paths
        remount                     refresh the view in place, and change the words beside it
        ro rw suid nosuid dev nodev exec noexec sync async dirsync atime noatime relatime
        norelatime strictatime nostrictatime diratime nodiratime
                                    as in mount(8); nosuid,nodev unless told otherwise
        user, users                 nosuid,nodev,noexec
        owner, group                nosuid,nodev
        lower-ttl= watch= xattr repair record noallow_other
                                    of the FUSE driver; errors where the kernel serves
        noxattr norepair norecord allow_other
                                    of the FUSE driver; the kernel does nothing else
        x-* X-* comment= user= defaults auto noauto nofail _netdev nouser noowner nogroup silent
        loud lazytime nolazytime iversion noiversion mand nomand default_permissions
                                    without effect

Called by the name overstore-refresh it takes DIR alone, as Nix calls its remount-hook.

EXAMPLES
  mount -t overstore overlay /m/nix/store -o lowerdir=/l/nix/store,upperdir=/u
  overlay /m/nix/store overstore lowerdir=/l/nix/store,upperdir=/u,nofail 0 0

EXIT CODES
  0 done, 1 wrong usage or not permitted, 2 system error, 4 internal error, 32 mount failure
";
