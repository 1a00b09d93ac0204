// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary of Nix stores: store directories, store object names, store URLs.
//!
//! Decides what a well-formed name or URL is and leaves what it means to `layout`. Invariant:
//! nothing here reads files, the environment or the clock.

mod dir;
mod name;
pub mod path;
pub mod percent;
mod reference;

pub use dir::StoreDir;
pub use name::{HASH_PART_BYTES, NAME_PART_MAX_BYTES, NameError, ObjectName};
pub use reference::{Note, ReferenceError, StoreReference, Target};
