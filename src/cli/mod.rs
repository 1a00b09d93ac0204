// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with `args` (program name first) and returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _count = args.count();
    ExitCode::from(2)
}
