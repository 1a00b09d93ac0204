// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collecting, deleting and optimising, beside real Nix in two versions and on both backends.
//!
//! Each test is one group of steps (`tests/collecting/*.sh`) in a root folder that `scripts/nix-root`
//! made. Invariant: all processes and mounts of a test live in namespaces that end with it.

#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;

mod cost;

use root_folder::{Ended, Inside, helper, root_folder_with_fuse, scratch};
use skip::skip;
use std::path::Path;

/// A test that takes longer hangs.
const LIMIT_SECONDS: u32 = 400;
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
    if backend == "kernel" && !matches!(helper().try_exists(), Ok(true)) {
        return skip("mount-overstore is not built: cargo build --workspace");
    }
    match root_folder_with_fuse(suite) {
        Ok(root) => steps(&root, group, backend, user).check(),
        Err(why) => skip(&why),
    }
}

/// Runs the steps in a scratch directory that goes with this call.
fn steps(root: &Path, group: &str, backend: &str, user: &str) -> Ended {
    let scratch = scratch("collecting-");
    let plain = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
    ];
    let plain: &[&str] = if user == "user" { &plain } else { &[] };
    if user == "user" {
        std::os::unix::fs::chown(&scratch, Some(NOBODY), Some(NOBODY)).expect("root gives it away");
    }
    let steps = format!("/run/tests/{group}.sh");
    let words = ["env", "OVERSTORE_LOG=warn", "bash", &steps, backend, user];
    Inside::new(root, LIMIT_SECONDS)
        .bind(&scratch, "/mnt")
        .bind_here("tests/collecting", "/run/tests")
        .bind_here("scripts", "/run/scripts")
        .bind_programs()
        .run(plain.iter().chain(&words))
}
