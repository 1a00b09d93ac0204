// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix, in two versions, works unmodified on a merged store, with its own check of the mount.
//!
//! Each test is one group of steps (`tests/nix/*.sh`) in one mode, in a root folder that
//! `scripts/nix-root` made from a Debian suite. `OVERSTORE_NIX_BACKEND=kernel` runs the same steps
//! on the kernel's OverlayFS, as the control. `OVERSTORE_REQUIRE` makes a skip a failure.
//! Invariant: all processes and mounts of a test live in namespaces that end with it.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A test that takes longer hangs. The rounds of `underneath` take 40 seconds on an idle machine.
const LIMIT_SECONDS: &str = "420";
/// The kernel's OverlayFS is not mounted by `overstore run`, and forbids its layers to change.
const NOT_THE_KERNELS: [&str; 2] = ["inside", "underneath"];
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Writes one test for each suite, group of steps and mode.
macro_rules! scenarios {
    ($($suite:ident: $($group:ident)+;)+) => {
        $(mod $suite {
            $(mod $group {
                fn run(mode: &str) {
                    crate::run(stringify!($suite), stringify!($group), mode);
                }

                #[test]
                fn root() {
                    run("root");
                }

                #[test]
                fn userns() {
                    run("userns");
                }

                #[test]
                fn user() {
                    run("user");
                }
            })+
        })+
    };
}

scenarios! {
    trixie: objects builds exchange inside underneath repair;
    sid: objects builds exchange inside underneath repair;
}

fn run(suite: &str, group: &str, mode: &str) {
    let backend = match std::env::var("OVERSTORE_NIX_BACKEND") {
        Ok(backend) if backend == "kernel" => "kernel",
        _ => "fuse",
    };
    if backend == "kernel" && (mode == "user" || NOT_THE_KERNELS.contains(&group)) {
        // Not a skip: there is no such thing.
        return notice("not applicable: what the kernel's OverlayFS cannot do");
    }
    match root_folder(suite, backend) {
        Ok(root) => check(&scenario(&root, group, mode, backend)),
        Err(why) => {
            assert!(
                std::env::var_os("OVERSTORE_REQUIRE").is_none(),
                "skipped: {why}"
            );
            notice(&format!("skipped: {why}"));
        }
    }
}

/// Returns the root folder of `suite`, or why these tests cannot run here.
fn root_folder(suite: &str, backend: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can enter a root folder".to_owned());
    }
    if backend == "fuse" && !matches!(Path::new("/dev/fuse").try_exists(), Ok(true)) {
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
fn scenario(root: &Path, group: &str, mode: &str, backend: &str) -> Output {
    let scratch = tempfile::Builder::new()
        .prefix("nix-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("cargo makes this directory for tests");
    let log = std::env::var("OVERSTORE_LOG").unwrap_or_else(|_| "info".to_owned());
    output(
        Command::new("timeout")
            .args(["--signal=KILL", LIMIT_SECONDS])
            .arg(format!("{HERE}/scripts/nix-enter"))
            .arg(root)
            .arg("--bind")
            .args([scratch.path(), Path::new("/mnt")])
            .args(["--bind", &format!("{HERE}/tests/nix"), "/run/tests"])
            .args(["--bind", env!("CARGO_BIN_EXE_overstore")])
            .arg("/run/bin/overstore")
            .args(["--bind", env!("CARGO_BIN_EXE_overstore-sync")])
            .arg("/run/bin/overstore-sync")
            .args(["--", "env", &format!("OVERSTORE_LOG={log}")])
            .args(["bash", "/run/tests/scenario.sh", group, mode, backend]),
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

/// Prints past the runner's capture, so that it is seen without any flag.
fn notice(text: &str) {
    let shown = writeln!(std::io::stderr(), "{text}");
    shown.expect("standard error is open");
}
