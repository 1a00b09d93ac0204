// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that real Nix made, in two versions: it and we tell of the same paths, and what was mended
//! here, Nix finds good.

use crate::common::root_folder::{Inside, root_folder_with_fuse, scratch};
use crate::common::skip::skip;

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 300;

fn run(suite: &str, backend: &str) {
    let root = match root_folder_with_fuse(suite) {
        Ok(root) => root,
        Err(why) => return skip(&why),
    };
    let scratch = scratch("verify-nix-");
    Inside::new(&root, LIMIT_SECONDS)
        .bind(&scratch, "/mnt")
        .bind_here("tests/verifying", "/run/tests")
        .bind_programs()
        .run([
            "env",
            &format!("BACKEND={backend}"),
            "bash",
            "/run/tests/nix.sh",
        ])
        .check();
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
