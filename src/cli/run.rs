// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore run`.

use super::args::RunArgs;
use crate::error::{Error, Result};

/// Runs the command; returns only if that fails.
pub(super) fn run(_wanted: &RunArgs, _verbose: bool) -> Result<u8> {
    Err(Error::usage("overstore run", "not yet"))
}
