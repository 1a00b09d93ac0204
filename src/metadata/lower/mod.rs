// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metadata of a lower store, whatever kind of store it is.
//!
//! Invariant: nothing of a lower store is created, locked for writing or changed.

pub mod daemon;
