// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore verify` on damaged stores: what is told, what is mended, and what stays.

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod mending;
mod real_nix;
mod world;
