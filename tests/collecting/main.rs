// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collecting, deleting and optimising, beside real Nix in two versions and on both backends.
//!
//! Each test is one group of steps (`tests/collecting/*.sh`) in a root folder that `scripts/nix-root`
//! made. Invariant: all processes and mounts of a test live in namespaces that end with it.

#[path = "../common/skip.rs"]
mod skip;

mod cost;

use skip::skip;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A test that takes longer hangs.
const LIMIT_SECONDS: &str = "400";
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// The user that the plain ones run as.
const NOBODY: u32 = 65534;

/// Writes one test for each suite, group of steps, backend and user.
macro_rules! groups {
    ($($suite:ident: $($group:ident $backend:ident $user:ident),+;)+) => {
        $(mod $suite {
            $(groups!(@one $suite $group $backend $user);)+
        })+
    };
    (@one $suite:ident $group:ident fuse root) => {
        #[test]
        fn $group() {
            crate::run(stringify!($suite), stringify!($group), "fuse", "root");
        }
    };
    (@one $suite:ident $group:ident $backend:ident $user:ident) => {
        mod $group {
            mod $backend {
                #[test]
                fn $user() {
                    let [group, backend] = [stringify!($group), stringify!($backend)];
                    crate::run(stringify!($suite), group, backend, stringify!($user));
                }
            }
        }
    };
}

groups! {
    trixie: matrix fuse root, same fuse root, protocol fuse root, crash fuse root, stress fuse root;
    sid: matrix fuse root, same fuse root, protocol fuse root, crash fuse root, stress fuse root;
}

/// The other backend and the other user, which have names of their own.
mod others {
    #[test]
    fn matrix_by_the_kernel() {
        crate::run("sid", "matrix", "kernel", "root");
    }

    #[test]
    fn matrix_of_a_plain_user() {
        crate::run("sid", "matrix", "fuse", "user");
    }

    #[test]
    fn same_by_the_kernel() {
        crate::run("sid", "same", "kernel", "root");
    }

    #[test]
    fn crash_by_the_kernel() {
        crate::run("sid", "crash", "kernel", "root");
    }
}

fn run(suite: &str, group: &str, backend: &str, user: &str) {
    let helper = Path::new(env!("CARGO_BIN_EXE_overstore")).with_file_name("mount-overstore");
    if backend == "kernel" && !matches!(helper.try_exists(), Ok(true)) {
        return skip("mount-overstore is not built: cargo build --workspace");
    }
    match root_folder(suite) {
        Ok(root) => check(&steps(&root, group, backend, user, &helper)),
        Err(why) => skip(&why),
    }
}

/// Returns the root folder of `suite`, or why these tests cannot run here.
fn root_folder(suite: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can enter a root folder".to_owned());
    }
    if !matches!(Path::new("/dev/fuse").try_exists(), Ok(true)) {
        return Err("no /dev/fuse".to_owned());
    }
    let made = output(Command::new(format!("{HERE}/scripts/nix-root")).arg(suite));
    if made.status.success() {
        Ok(PathBuf::from(OsStr::from_bytes(made.stdout.trim_ascii())))
    } else {
        Err(text(made.stderr.trim_ascii()))
    }
}

/// Runs the steps in a scratch directory that goes with this call.
fn steps(root: &Path, group: &str, backend: &str, user: &str, helper: &Path) -> Output {
    let scratch = tempfile::Builder::new()
        .prefix("collecting-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("cargo makes this directory for tests");
    let plain = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
    ];
    let plain: &[&str] = if user == "user" { &plain } else { &[] };
    if user == "user" {
        std::os::unix::fs::chown(scratch.path(), Some(NOBODY), Some(NOBODY))
            .expect("root gives it away");
    }
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", LIMIT_SECONDS])
        .arg(format!("{HERE}/scripts/nix-enter"))
        .arg(root)
        .arg("--bind")
        .args([scratch.path(), Path::new("/mnt")])
        .args(["--bind", &format!("{HERE}/tests/collecting"), "/run/tests"])
        .args(["--bind", &format!("{HERE}/scripts"), "/run/scripts"])
        .args([
            "--bind",
            env!("CARGO_BIN_EXE_overstore"),
            "/run/bin/overstore",
        ]);
    if matches!(helper.try_exists(), Ok(true)) {
        command
            .arg("--bind")
            .arg(helper)
            .arg("/run/bin/mount.overstore");
    }
    output(
        command
            .arg("--")
            .args(plain)
            .args(["env", "OVERSTORE_LOG=warn", "bash"])
            .arg(format!("/run/tests/{group}.sh"))
            .args([backend, user]),
    )
}

fn check(output: &Output) {
    let shown = text(&output.stdout) + &text(&output.stderr);
    match output.status.code() {
        Some(0) => print!("{shown}"),
        Some(137) | None => panic!("hangs after the last step shown:\n{shown}"),
        _ => panic!("{}:\n{shown}", output.status),
    }
}

fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

/// Returns what a program said, readable even where it printed names that are no text.
fn text(bytes: &[u8]) -> String {
    let replaced = |invalid: &[u8]| if invalid.is_empty() { "" } else { "?" };
    let chunks = bytes.utf8_chunks();
    chunks
        .flat_map(|chunk| [chunk.valid(), replaced(chunk.invalid())])
        .collect()
}
