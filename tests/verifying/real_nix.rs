// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that real Nix made, in two versions: it and we tell of the same paths, and what was mended
//! here, Nix finds good.

use crate::common::skip::skip;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// What takes longer hangs.
const LIMIT_SECONDS: &str = "300";

fn run(suite: &str, backend: &str) {
    if !rustix::process::geteuid().is_root() || Path::new("/dev/fuse").symlink_metadata().is_err() {
        return skip("only root, with /dev/fuse, can enter a root folder");
    }
    let made = Command::new(format!("{HERE}/scripts/nix-root"))
        .arg(suite)
        .output()
        .unwrap();
    if !made.status.success() {
        return skip(std::str::from_utf8(&made.stderr).unwrap().trim());
    }
    let scratch = tempfile::Builder::new()
        .prefix("verify-nix-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT_SECONDS])
        .arg(format!("{HERE}/scripts/nix-enter"))
        .arg(OsStr::from_bytes(made.stdout.trim_ascii()))
        .arg("--bind")
        .args([scratch.path(), Path::new("/mnt")])
        .args(["--bind", &format!("{HERE}/tests/verifying"), "/run/tests"])
        .args([
            "--bind",
            env!("CARGO_BIN_EXE_overstore"),
            "/run/bin/overstore",
        ])
        .args(["--", "env", &format!("BACKEND={backend}")])
        .args(["bash", "/run/tests/nix.sh"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {shown}", output.status);
}

#[test]
fn nix_of_trixie_on_fuse() {
    run("trixie", "fuse");
}

#[test]
fn nix_of_trixie_on_the_kernel() {
    run("trixie", "kernel");
}

#[test]
fn nix_of_sid_on_fuse() {
    run("sid", "fuse");
}

#[test]
fn nix_of_sid_on_the_kernel() {
    run("sid", "kernel");
}
