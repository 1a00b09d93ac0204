// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects put into a store: from files, or from archives whose object is known.
//!
//! Decides when an object is written and when it is there already. Invariants: whoever writes an
//! object has a temporary root of it and its lock; it is registered when it is complete and proved to
//! be what it should be; and what was not registered is removed again.
//!
//! * `put`: an object whose info is known, put in place under all locks.
//! * `swap`: the same, in place of one that is there.
//! * `content`: what a content address says of a tree.
//! * `file`: what is added, read from anywhere, and the object that it makes.
//! * `watched`: long work, and waits for input, that end when they are interrupted.

mod content;
mod file;
mod put;
mod swap;
mod watched;

pub use file::{Recipe, add, plan};
pub(super) use put::{Merged, in_upper, keep, lock, settle};
pub use put::{Put, put};
pub use swap::replace;
pub(super) use swap::{Made, put_made};
pub use watched::Interruptible;
pub(super) use watched::Watched;

#[cfg(test)]
mod tests;
