// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the system offers and no library wraps: all `unsafe` of the project, and the list of mounts.

pub mod control;
pub mod mounts;
pub mod process;
pub mod signals;

pub use overstore_mount::mountinfo;
