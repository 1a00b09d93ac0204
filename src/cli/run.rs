// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore run`.

use super::args::{BackendChoice, RunArgs};
use super::request::{self, Target};
use super::say;
use crate::backend::run::{self, Choice, Failure, Run};
use crate::error::Result;

/// Runs the command; returns only if that fails.
pub(super) fn run(wanted: &RunArgs, verbose: bool) -> u8 {
    let failure = match prepare(wanted, verbose) {
        Ok(ready) => run::run(&ready),
        Err(error) => Failure::from(error),
    };
    say(&format!("error: {}", failure.error));
    failure.code
}

fn prepare(wanted: &RunArgs, verbose: bool) -> Result<Run> {
    let (request, work) = request::for_run(&Target {
        words: [wanted.url.as_deref(), None],
        options: &wanted.store.options,
    })?;
    Ok(Run {
        request,
        work,
        choice: match wanted.backend {
            BackendChoice::Auto => Choice::Auto,
            BackendChoice::Fuse => Choice::Fuse,
            BackendChoice::Kernel => Choice::Kernel,
        },
        command: wanted.command.clone(),
        verbose,
    })
}
