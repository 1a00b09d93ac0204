// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the objects of a store.
//!
//! Invariant: what is interrupted, in whatever step, leaves a store that verifies: files may be
//! without a row, rows are never without files.
//!
//! * `add`: objects put into a store, from files or archives.
//! * `opened`: a store that is open for change.
//! * `query`: what the metadata tells; nothing is changed.

pub mod add;
mod opened;
pub mod query;

pub use opened::{Store, read_file, store_dir};
