// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calling the program `overstore`, which has the FUSE driver and reads store URLs.
//!
//! Invariant: it is found beside this program or in a fixed place, and sees a clean environment.

use overstore_mount::Fault;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

const NAME: &str = "overstore";

/// Where it may be, after the directory of this program.
const PLACES: [&str; 6] = [
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/run/current-system/sw/bin",
];

/// What it finds other programs by (`fusermount3`).
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin";

/// Finds the program.
pub(crate) fn find() -> Result<PathBuf, Fault> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(|own| own.parent());
    let places = beside
        .into_iter()
        .chain(PLACES.iter().map(|place| place.as_ref()));
    let mut files = places.map(|place| place.join(NAME));
    files.find(|file| file.is_file()).ok_or_else(|| {
        Fault::system(format!(
            "the program {NAME} is neither beside mount.overstore nor in {}; install it there",
            PLACES.join(", ")
        ))
    })
}

/// Runs the program to its end, and returns mount(8)'s exit code for its own.
pub(crate) fn run(program: &PathBuf, args: &[OsString]) -> Result<u8, Fault> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH);
    let status = command
        .status()
        .map_err(|why| Fault::system(format!("run {}: {why}", program.display())))?;
    Ok(translate(status))
}

/// Its own table says 1 for "the answer is no", 2 for wrong usage, 3 for the machine, 4 for data.
fn translate(status: ExitStatus) -> u8 {
    match status.code() {
        Some(0) => 0,
        Some(2) => 1,
        _ => 32,
    }
}
