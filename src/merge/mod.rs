// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of the merged view as pure functions: what a name resolves to, what a listing
//! holds, what may be changed. No I/O: callers bring what they probed.
//!
//! Invariant: no rule here ever asks for a change of the lower or for a new whiteout.

mod change;
mod listing;
mod resolve;

pub use change::{Refusal, Side, may_make, may_remove, may_rename};
pub use listing::{Item, Listing, Visible};
pub use resolve::{Probe, Resolution, resolve};
