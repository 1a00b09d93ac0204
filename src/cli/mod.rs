// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: reads arguments, calls the room that does the work, prints what it answers.
//!
//! Invariant: data goes to standard output, everything else to standard error; an error is one
//! line, and its kind decides the exit code.

mod adding;
mod args;
mod check;
mod collecting;
mod compare;
#[cfg(test)]
mod docs_tests;
mod log;
mod mount;
mod query;
#[cfg(test)]
mod query_tests;
mod request;
mod run;
mod status;
mod verify;

use crate::error::{Error, Result};
use args::{Arguments, Command, HookArgs, Switch};
use clap::{CommandFactory, Parser};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code of `overstore run` for failures of its own.
const RUN_FAILED: u8 = 125;

/// Runs the program with `args` (program name first) and returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let parsed = match Arguments::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            let (of, code) = match subcommand(&args).as_deref() {
                Some("run") => ("overstore run".to_owned(), RUN_FAILED),
                Some(command) => (format!("overstore {command}"), 2),
                None => ("overstore".to_owned(), 2),
            };
            return refuse(&wrong, &of, code);
        }
    };
    log::start(parsed.verbose);
    let verbose = parsed.verbose > 0;
    let result = match parsed.command {
        Command::Mount(wanted) => mount::mount(&wanted, &args),
        Command::Umount(wanted) => mount::umount(&wanted),
        Command::Run(wanted) => Ok(run::run(&wanted, verbose)),
        Command::Check(wanted) => check::check(&wanted),
        Command::Status(wanted) => status::status(&wanted),
        Command::Compare(wanted) => compare::compare(&wanted),
        Command::Verify(wanted) => verify::verify(&wanted),
        Command::Add(wanted) => adding::add(&wanted),
        Command::Import(wanted) => adding::import(&wanted),
        Command::Export(wanted) => adding::export(&wanted),
        Command::CopyUp(wanted) => adding::copy_up(&wanted),
        Command::DumpDb(wanted) => adding::dump_db(&wanted),
        Command::LoadDb(wanted) => adding::load_db(&wanted),
        Command::Register(wanted) => adding::register(&wanted),
        Command::Seal(wanted) => adding::seal(&wanted),
        Command::Sign(wanted) => adding::sign(&wanted),
        Command::Gc(wanted) => collecting::gc(&wanted),
        Command::Delete(wanted) => collecting::delete(&wanted),
        Command::Optimise(wanted) => collecting::optimise(&wanted),
        Command::PathInfo(wanted) => query::path_info(&wanted),
        Command::Query(wanted) => query::query(&wanted),
        Command::Sync { merged } => sync(&merged),
        Command::Repair { switch, merged } => repair(switch, &merged),
        Command::Probe { merged } => status::probe(&merged),
        Command::Try { what, paths } => attempt(&what, &paths),
    };
    finish(result)
}

/// Runs the hook with `args` (program name first) and returns its exit code.
pub fn hook(args: impl Iterator<Item = OsString>) -> ExitCode {
    let wanted = match HookArgs::try_parse_from(args) {
        Ok(wanted) => wanted,
        Err(wrong) => return refuse(&wrong, "overstore-sync", 2),
    };
    log::start(0);
    finish(sync(&wanted.merged))
}

/// Says what went wrong, if anything did, and returns the exit code.
fn finish(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn sync(merged: &Path) -> Result<u8> {
    crate::backend::status::sync(merged)?;
    Ok(0)
}

fn repair(switch: Switch, merged: &Path) -> Result<u8> {
    crate::backend::status::repair(merged, switch == Switch::On)?;
    Ok(0)
}

/// The hidden command behind a probe: tries something in this process, which may hang.
fn attempt(what: &str, paths: &[PathBuf]) -> Result<u8> {
    use crate::backend::probe;
    let (text, code) = match probe::attempt(what, paths) {
        Ok(seen) => (seen, 0),
        Err(why) if probe::says_no(&why) => (why.to_string(), probe::NO),
        Err(why) => (why.to_string(), probe::UNKNOWN),
    };
    print(text.as_bytes())?;
    Ok(code)
}

/// Returns the known command that was given, by which its help is found.
fn subcommand(args: &[OsString]) -> Option<String> {
    let given = args.iter().skip(1).find(|arg| !is_flag(arg))?;
    let program = Arguments::command();
    let found = program.find_subcommand(given)?;
    (!found.is_hide_set()).then(|| found.get_name().to_owned())
}

/// Prints help, the version, or what is wrong with the arguments `of` a program.
fn refuse(wrong: &clap::Error, of: &str, code: u8) -> ExitCode {
    use clap::error::ErrorKind;
    let help = wrong.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !wrong.use_stderr() || help {
        let shown = wrong.print().and_then(|()| io::stdout().flush());
        return match shown {
            Err(why) if why.kind() != io::ErrorKind::BrokenPipe => finish(Err(unprinted(why))),
            Ok(()) if help => ExitCode::from(2),
            _ => ExitCode::SUCCESS,
        };
    }
    say(&format!(
        "{}; see `{of} --help`",
        one_line(&wrong.to_string())
    ));
    ExitCode::from(code)
}

/// What a parser says in several lines, without the usage that follows.
fn one_line(text: &str) -> String {
    let told = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more");
    let lines = text.lines().map(str::trim).take_while(told);
    // A tip may name what is not for users.
    let lines: Vec<&str> = lines
        .filter(|l| !l.is_empty() && !l.starts_with("tip:"))
        .collect();
    lines.join(" ")
}

fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-")
}

/// Writes one line to standard error. Nobody is left to be told when that fails.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Writes data to standard output. A reader who has seen enough (a closed pipe) is no failure.
fn print(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(unprinted(why)),
        _ => Ok(()),
    }
}

fn unprinted(why: io::Error) -> Error {
    Error::environment("write to standard output", why)
}
