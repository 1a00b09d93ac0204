// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the objects of a store.
//!
//! Invariant: what is interrupted, in whatever step, leaves a store that verifies: files may be
//! without a row, rows are never without files.
//!
//! * `add`: objects put into a store, from files or archives.
//! * `import`, `export`: streams of objects.
//! * `registration`: the text of what is registered, written and taken in.
//! * `record`: objects that were completed through a view, made valid by its driver's companion.
//! * `scan`: what an object is by what is in it.
//! * `seal`: objects that somebody put in place by hand.
//! * `sign`: signatures added to what is registered.
//! * `trust`: whose signatures count.
//! * `opened`: a store that is open for change.
//! * `query`: what the metadata tells; nothing is changed.
//! * `find_roots`: what keeps objects alive.
//! * `gc`: what is dead, or told to go, is deleted from the upper.
//! * `optimise`: duplicates of the lower go, equal files become links of one.
//! * `verify`: whether files and rows agree, and repair.

pub mod add;
mod export;
mod find_roots;
pub mod gc;
mod import;
mod opened;
pub mod optimise;
pub mod query;
pub mod record;
pub mod registration;
mod scan;
mod seal;
mod sign;
mod trust;
pub mod verify;

pub use export::export;
pub use find_roots::{find_roots, list_roots};
pub use import::import;
pub use opened::{Store, read_file, store_dir};
pub use seal::seal;
pub use sign::{copy_up, sign};
pub use trust::Trust;
