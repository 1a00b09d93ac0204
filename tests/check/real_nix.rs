// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that real Nix made, in two versions: no fault where there is none, and the printed commands
//! mend what Nix then finds mended.

use crate::root_folder::{Inside, root_folder_with_fuse, scratch};
use crate::skip::skip;

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 300;

fn run(suite: &str) {
    let root = match root_folder_with_fuse(suite) {
        Ok(root) => root,
        Err(why) => return skip(&why),
    };
    let scratch = scratch("check-nix-");
    Inside::new(&root, LIMIT_SECONDS)
        .bind(&scratch, "/mnt")
        .bind_here("tests/check", "/run/tests")
        .bind_programs()
        .run(["bash", "/run/tests/nix.sh"])
        .check();
}

#[test]
fn nix_of_trixie() {
    run("trixie");
}

#[test]
fn nix_of_sid() {
    run("sid");
}
