// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary of Nix stores: store directories, object names, hashes, path infos, store URLs, and
//! the formats in which they are written.
//!
//! Decides what is well-formed and leaves what a URL means to `layout`. Invariant: nothing here
//! reads files, the environment or the clock.

pub mod base32;
mod content_address;
pub mod derivation;
mod dir;
mod hash;
pub mod json;
pub mod make;
mod name;
mod nar_info;
pub mod path;
mod path_info;
pub mod percent;
mod reference;
pub mod registration;
pub mod signature;

pub use content_address::{ContentAddress, Method};
pub use dir::StoreDir;
pub use hash::{Algorithm, Hash, Hasher, Sha256};
pub use name::{HASH_PART_BYTES, NAME_PART_MAX_BYTES, NameError, ObjectName};
pub use nar_info::NarInfo;
pub use path_info::{Outputs, PathInfo};
pub use reference::{Note, ReferenceError, StoreReference, Target};
