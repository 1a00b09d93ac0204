// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as a user meets it: mistakes, mounts, status, `run`.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../common/skip.rs"]
mod skip;

mod driver;
mod ends;
mod life;
mod mistakes;
mod place;
mod run;
