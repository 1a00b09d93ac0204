// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upper database as a library offers it: against a model, against faults, and against real Nix.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod broken;
mod ended;
mod model;
mod place;
mod real_nix;
#[path = "../common/root_folder.rs"]
mod root_folder;
mod rows;
mod sequences;
#[path = "../common/skip.rs"]
mod skip;
mod trusted;
mod waiting;
