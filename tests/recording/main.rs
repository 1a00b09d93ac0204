// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount option `record`, on real mounts in three modes: what is completed through the view by
//! hand becomes valid, and nothing else does.
//!
//! That something is not recorded is proved by something later that is: turns come in the order of
//! what happened. Invariant: when a test has ended, the recorder has too.

#[path = "../common/mod.rs"]
mod common;

mod completed;
mod ending;
mod locked;
mod refused;
mod unfinished;
mod world;
