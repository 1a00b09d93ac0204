// SPDX-License-Identifier: MIT OR Apache-2.0
//! File system objects as Nix archives (NAR): read, written, dumped from a tree, restored to one,
//! hashed and searched for references; and the trees themselves, made canonical and removed.
//!
//! Decides what a well-formed archive is and what a canonical tree is; which object is valid, and
//! where it belongs, is for others. Invariant: nothing is read into memory by a size that the input
//! claims, and no name below a tree's directory descriptor is reached through a symbolic link.

mod canonical;
mod dump;
mod export;
mod look;
mod modulo;
mod order;
mod place;
mod reader;
mod remove;
mod restore;
mod scan;
mod search;
mod sink;
mod tee;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

pub use canonical::{Links, canonicalise};
pub use dump::{dump, hash_tree, tell};
pub use export::{ExportReader, ExportWriter, Exported, MAX_REFERENCES};
pub use look::{Fault, Look, look};
pub use modulo::{MAX_SELF_REFERENCES, Modulo, ModuloHasher};
pub use order::dependencies_first;
pub use place::Place;
pub use reader::{MAX_DEPTH, MAX_NAME_BYTES, MAX_TARGET_BYTES, read};
pub use remove::{Forecast, Freed, remove_tree};
pub use restore::{Restorer, restore};
pub use scan::Scanner;
pub use sink::{Both, Discard, FileHead, Sink};
pub use tee::{Fan, NarHasher, Tee};
pub use wire::Input;
pub use writer::Writer;
