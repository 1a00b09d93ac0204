// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore run`.

use super::args::RunArgs;
use super::log;
use super::request::{self, Spelling, Target};
use super::say;
use crate::backend::run::{self, Failure, Run};
use crate::backend::{Request, preflight};
use crate::error::{Error, Result};
use crate::operations::record;
use std::io;

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
    let (request, spelling) = request::for_run(&Target {
        words: [wanted.url.as_deref(), None],
        options: &wanted.store.options,
        say: request::Say::Warnings,
    })?;
    record::refuse_private(&request)?;
    directories(&request, spelling)?;
    Ok(Run {
        request,
        choice: wanted.backend.into(),
        command: wanted.command.clone(),
        left: (!verbose).then_some(log::leave_terminal),
    })
}

/// Creates the upper directory if only it is missing, and Nix's real directory as Nix would.
fn directories(request: &Request, spelling: Spelling) -> Result<()> {
    let layout = &request.layout;
    preflight::lower(request)?;
    super::mount::create_upper(&layout.upper)?;
    if spelling == Spelling::Url && layout.merged != layout.store_dir {
        // Without it the view stands at the store directory alone, which is all that is promised.
        match std::fs::create_dir_all(&layout.merged) {
            Ok(()) => {}
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) => ::log::info!("{}", Error::on("create", &layout.merged, why)),
        }
    }
    Ok(())
}
