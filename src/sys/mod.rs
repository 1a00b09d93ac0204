// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that no library wraps safely; all `unsafe` of the project.

pub mod control;
pub mod mounts;
pub mod process;
pub mod signals;
