// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the objects of a store.
//!
//! Invariant: what is interrupted, in whatever step, leaves a store that verifies: files may be
//! without a row, rows are never without files.
//!
//! * `opened`: a store that is open for change.
//! * `query`: what the metadata tells; nothing is changed.
//! * `find_roots`: what keeps objects alive.

mod find_roots;
mod opened;
pub mod query;

pub use find_roots::find_roots;
pub use opened::{Store, read_file, store_dir};
