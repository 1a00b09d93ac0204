// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix, in two versions, works unmodified on a merged store, with its own check of the mount.
//!
//! Each test is one group of steps (`tests/nix/*.sh`) in one mode, in a root folder that
//! `scripts/nix-root` made from a Debian suite. `OVERSTORE_NIX_BACKEND=kernel` runs the same steps
//! on the kernel backend, and `overlay` on an OverlayFS that mount(8) mounts without any program of
//! ours, as the control. `OVERSTORE_REQUIRE` makes a skip a failure.
//! Invariant: all processes and mounts of a test live in namespaces that end with it.

#[path = "common/skip.rs"]
mod skip;

use skip::skip;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A test that takes longer hangs. The rounds of `underneath` take 40 seconds on an idle machine.
const LIMIT_SECONDS: &str = "420";
/// In these the layers change underneath the view, or `overstore run` serves it by its own choice.
const NOT_THE_KERNELS: [&str; 3] = ["inside", "recording", "underneath"];
/// How `scenario.sh` says that the kernel mounts no overlay here.
const SKIPPED: i32 = 77;
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Writes one test for each suite, group of steps and mode. The groups of the second line mount by
/// the kernel backend themselves, which a plain user cannot.
macro_rules! scenarios {
    ($($suite:ident: $($group:ident)+; by the kernel: $($by_kernel:ident)+;)+) => {
        $(mod $suite {
            $(scenarios!(@modes $suite $group root userns user);)+
            $(scenarios!(@modes $suite $by_kernel root userns);)+
        })+
    };
    (@modes $suite:ident $group:ident $($mode:ident)+) => {
        mod $group {
            $(#[test]
            fn $mode() {
                crate::run(stringify!($suite), stringify!($group), stringify!($mode));
            })+
        }
    };
}

scenarios! {
    trixie: objects builds exchange adding inside underneath recording repair;
        by the kernel: kernel cross;
    sid: objects builds exchange adding inside underneath recording repair;
        by the kernel: kernel cross;
}

fn run(suite: &str, group: &str, mode: &str) {
    let wanted = std::env::var("OVERSTORE_NIX_BACKEND").unwrap_or_else(|_| "fuse".to_owned());
    let backend = match group {
        // `cross` begins with it, and takes turns.
        "kernel" | "cross" => "kernel",
        _ => &wanted,
    };
    if backend != "fuse" && (mode == "user" || NOT_THE_KERNELS.contains(&group)) {
        // Not a skip: there is no such thing.
        return notice("not applicable: what the kernel's OverlayFS cannot do");
    }
    match root_folder(suite, backend) {
        Ok(root) => check(&scenario(&root, group, mode, backend)),
        Err(why) => skip(&why),
    }
}

/// The mount helper, a program of another package of this workspace.
fn helper() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_overstore")).with_file_name("mount-overstore")
}

/// Returns the root folder of `suite`, or why these tests cannot run here.
fn root_folder(suite: &str, backend: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can enter a root folder".to_owned());
    }
    if backend == "kernel" && !matches!(helper().try_exists(), Ok(true)) {
        return Err("mount-overstore is not built: cargo build --workspace".to_owned());
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
    let mut programs = vec![
        (PathBuf::from(env!("CARGO_BIN_EXE_overstore")), "overstore"),
        (
            PathBuf::from(env!("CARGO_BIN_EXE_overstore-sync")),
            "overstore-sync",
        ),
    ];
    if matches!(helper().try_exists(), Ok(true)) {
        programs.push((helper(), "mount.overstore"));
    }
    let binds = programs.iter().flat_map(|(built, name)| {
        let place = PathBuf::from(format!("/run/bin/{name}"));
        ["--bind".into(), built.clone(), place]
    });
    let log = std::env::var("OVERSTORE_LOG").unwrap_or_else(|_| "info".to_owned());
    output(
        Command::new("timeout")
            .args(["--signal=KILL", LIMIT_SECONDS])
            .arg(format!("{HERE}/scripts/nix-enter"))
            .arg(root)
            .arg("--bind")
            .args([scratch.path(), Path::new("/mnt")])
            .args(["--bind", &format!("{HERE}/tests/nix"), "/run/tests"])
            .args(binds)
            .args(["--", "env", &format!("OVERSTORE_LOG={log}")])
            .args(["bash", "/run/tests/scenario.sh", group, mode, backend]),
    )
}

fn check(output: &Output) {
    let shown = text(&output.stdout) + &text(&output.stderr);
    match output.status.code() {
        Some(0) => print!("{shown}"),
        Some(SKIPPED) => skip(shown.lines().last().unwrap_or_default()),
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
