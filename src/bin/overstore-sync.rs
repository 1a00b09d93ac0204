// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `overstore-sync` program: `overstore sync` in the shape of Nix's `remount-hook`, which is a
//! program that gets the store directory as its only argument.

fn main() -> std::process::ExitCode {
    overstore::cli::hook(std::env::args_os())
}
