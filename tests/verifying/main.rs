// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore verify` on damaged stores: what is told, what is mended, and what stays.
#![expect(clippy::too_many_lines, reason = "one story from end to end")]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod mending;
mod real_nix;
mod world;
