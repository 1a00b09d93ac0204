// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives and trees on disk: what is dumped, restored, made canonical and removed, by generated
//! trees, against another implementation, and against real Nix.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise; the lint's own exception is for #[test] alone"
)]

#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;

mod archives;
mod canonical;
mod nix;
mod removal;
mod restoring;
mod tree;
