// SPDX-License-Identifier: MIT OR Apache-2.0
//! What changes underneath the mount: what is seen of it, and within what time.
//!
//! A test binary of its own, because cargo runs one after the other: times are measured while
//! nothing else is tested. Invariant: a test that measures runs alone; see [`quiet`].

#[path = "../common/mod.rs"]
mod common;

mod both;
mod changes;
mod duplicate;
mod gains;
mod in_use;
mod limited;
mod listing;
mod load;
mod look;
mod many;
mod merged_dirs;
mod overflow;
mod promise;
mod quiet;
mod random;
mod remount;
mod written;
