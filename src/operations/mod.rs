// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the objects of a store.
//!
//! * `query`: what the metadata tells; nothing is changed.

pub mod query;
