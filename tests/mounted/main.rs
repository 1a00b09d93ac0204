// SPDX-License-Identifier: MIT OR Apache-2.0
//! The semantics of the merged view, on real mounts: every sentence of the rules has a test whose
//! doc comment quotes it.
//!
//! Each test runs once per mode (root, user namespace, plain user). `OVERSTORE_REQUIRE=1` turns
//! "skipped" into a failure; `OVERSTORE_TEST_BACKEND=kernel` mounts the kernel's OverlayFS
//! instead, with which the tests of reading must agree; `OVERSTORE_STRACE=DIR` traces the driver
//! and requires that nothing but the upper is ever opened for writing or changed.

#[path = "../common/mod.rs"]
mod common;

mod cost;
mod filesystems;
mod lifecycle;
mod limits;
mod races;
mod repair;
mod repair_crash;
mod repair_renamed;
mod representative;
mod semantics_files;
mod semantics_hostile;
mod semantics_identity;
mod semantics_listing;
mod semantics_locks;
mod semantics_ownership;
mod semantics_reading;
mod semantics_refusals;
mod semantics_removal;
mod semantics_rename;
mod semantics_whiteouts;
mod semantics_writing;
mod semantics_xattr;
mod unsettled;
