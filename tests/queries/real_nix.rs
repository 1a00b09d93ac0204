// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that real Nix made, in two versions, above four kinds of lower stores: what is printed are
//! the bytes that Nix prints, and nothing is changed.

use crate::root_folder::{Inside, root_folder_with_fuse, scratch};
use crate::skip::skip;

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 600;

fn run(suite: &str, lower: &str) {
    let root = match root_folder_with_fuse(suite) {
        Ok(root) => root,
        Err(why) => return skip(&why),
    };
    let scratch = scratch("queries-nix-");
    Inside::new(&root, LIMIT_SECONDS)
        .bind(&scratch, "/mnt")
        .bind_here("tests/queries", "/run/tests")
        .bind_programs()
        .run(["bash", "/run/tests/nix.sh", lower])
        .check();
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
