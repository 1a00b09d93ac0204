// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rig: the same operations on a model in memory, on the driver and on the kernel's OverlayFS.
//!
//! docs/rig.md says how to run it and what it compares. Invariant: a failure prints the smallest
//! specification that was seen to fail, in the form in which it is kept.

#[path = "../common/mod.rs"]
mod common;

mod divergence;
mod driver;
mod generate;
mod model;
mod mounted;
mod op;
mod outcome;
mod report;
mod rows;
mod runs;
mod text;
