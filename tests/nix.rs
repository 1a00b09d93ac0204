// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix, in two versions, works unmodified on a merged store, with its own check of the mount.
//!
//! Each test is one group of steps (`tests/nix/*.sh`) in one mode, in a root folder that
//! `scripts/nix-root` made from a Debian suite. `OVERSTORE_NIX_BACKEND=kernel` runs the same steps
//! on the kernel backend, and `overlay` on an OverlayFS that mount(8) mounts without any program of
//! ours, as the control. `OVERSTORE_REQUIRE` makes a skip a failure.
//! Invariant: all processes and mounts of a test live in namespaces that end with it.

#[path = "common/root_folder.rs"]
mod root_folder;
#[path = "common/skip.rs"]
mod skip;

use root_folder::{Ended, Inside, helper, root_folder_with_fuse, scratch};
use skip::skip;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A test that takes longer hangs. The rounds of `underneath` take 40 seconds on an idle machine.
const LIMIT_SECONDS: u32 = 420;
/// In these the layers change underneath the view, or `overstore run` serves it by its own choice.
const NOT_THE_KERNELS: [&str; 3] = ["inside", "recording", "underneath"];
/// How `scenario.sh` says that the kernel mounts no overlay here.
const SKIPPED: i32 = 77;

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

/// Returns the root folder of `suite`, or why these tests cannot run here.
fn root_folder(suite: &str, backend: &str) -> Result<PathBuf, String> {
    match backend {
        "kernel" if !matches!(helper().try_exists(), Ok(true)) => {
            Err("mount-overstore is not built: cargo build --workspace".to_owned())
        }
        "fuse" => root_folder_with_fuse(suite),
        _ => root_folder::root_folder(suite),
    }
}

/// Runs the steps in a scratch directory that goes with this call.
fn scenario(root: &Path, group: &str, mode: &str, backend: &str) -> Ended {
    let scratch = scratch("nix-");
    let log = std::env::var("OVERSTORE_LOG").unwrap_or_else(|_| "info".to_owned());
    Inside::new(root, LIMIT_SECONDS)
        .bind(&scratch, "/mnt")
        .bind_here("tests/nix", "/run/tests")
        .bind_programs()
        .run([
            "env",
            &format!("OVERSTORE_LOG={log}"),
            "bash",
            "/run/tests/scenario.sh",
            group,
            mode,
            backend,
        ])
}

fn check(ended: &Ended) {
    match ended.status.code() {
        Some(SKIPPED) => skip(ended.shown.lines().last().unwrap_or_default()),
        _ => ended.check(),
    }
}

/// Prints past the runner's capture, so that it is seen without any flag.
fn notice(text: &str) {
    let shown = writeln!(std::io::stderr(), "{text}");
    shown.expect("standard error is open");
}
