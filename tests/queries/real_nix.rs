// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that real Nix made, in two versions, above four kinds of lower stores: what is printed are
//! the bytes that Nix prints, and nothing is changed.

use crate::skip::skip;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// What takes longer hangs.
const LIMIT_SECONDS: &str = "600";

fn run(suite: &str, lower: &str) {
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
        .prefix("queries-nix-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT_SECONDS])
        .arg(format!("{HERE}/scripts/nix-enter"))
        .arg(OsStr::from_bytes(made.stdout.trim_ascii()))
        .arg("--bind")
        .args([scratch.path(), Path::new("/mnt")])
        .args(["--bind", &format!("{HERE}/tests/queries"), "/run/tests"])
        .args([
            "--bind",
            env!("CARGO_BIN_EXE_overstore"),
            "/run/bin/overstore",
        ])
        .args(["--", "bash", "/run/tests/nix.sh", lower])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {shown}", output.status);
}

macro_rules! suites {
    ($($suite:ident: $($name:ident $lower:literal)*;)*) => {$(
        mod $suite {
            $(
                #[test]
                fn $name() {
                    super::run(stringify!($suite), $lower);
                }
            )*
        }
    )*};
}

suites! {
    trixie: local "local" read_only "read-only" daemon "daemon" nested "nested";
    sid: local "local" read_only "read-only" daemon "daemon" nested "nested";
}
