// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `overstore` program: hands its arguments to `cli` and exits with the code it answers.

fn main() -> std::process::ExitCode {
    overstore::cli::main(std::env::args_os())
}
