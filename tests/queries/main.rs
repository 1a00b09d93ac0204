// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore path-info` and `overstore query` as a user meets them: against real Nix, and where a
//! database cannot be read.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod broken;
mod real_nix;
#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;
