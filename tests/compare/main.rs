// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore compare`: that equal views are equal, that each kind of difference is told, that the
//! layers stay as they are, and that nothing is left behind.
//!
//! Each test of real views runs once per mode (root, user namespace, plain user);
//! `OVERSTORE_REQUIRE=1` turns "skipped" into a failure.

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod ending;
mod refused;
mod trees;
mod untouched;
mod views;
mod yardstick;
