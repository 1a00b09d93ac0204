// SPDX-License-Identifier: MIT OR Apache-2.0
//! Overstore presents a Nix local overlay store as one merged store directory.
//!
//! The rooms and who may use whom are drawn in `docs/architecture.md`; `tests/rooms.rs` holds
//! the `use` lines to that drawing.

pub mod backend;
pub mod check;
pub mod cli;
pub mod compare;
pub mod error;
pub mod fuse;
pub mod layer;
pub mod layout;
pub mod merge;
pub mod merged;
pub mod metadata;
pub mod nar;
pub mod operations;
pub mod roots;
pub mod store;
pub mod sys;
pub mod wait;
