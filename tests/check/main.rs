// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore check` and the choice of `backend=auto`: each fault is made in a good layout, found as
//! that fault alone, and mended by the command that was printed.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod auto;
mod databases;
mod faults;
mod layers;
mod locked;
mod mending;
mod probes;
mod real_nix;
#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;
mod users;
mod world;
