// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be tried, from the side of the process that wants to know.

use super::super::ask::{Answer, ask};
use crate::error::Error;
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The hidden command by which this program tries something in a process of its own.
const TRY: &str = "try";

/// The exit code by which it says no; 0 says yes.
pub const NO: u8 = 1;

/// The exit code by which it says that it could not look.
pub const UNKNOWN: u8 = 3;

/// How long one trial may take. A mount takes milliseconds; a filesystem over the network may not.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It works.
    Yes,
    /// It does not.
    No,
    /// It could not be found out.
    Unknown,
}

/// An answer and what led to it, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// What was seen, or why not.
    pub detail: String,
    /// Whether it is unknown because no answer came in time.
    pub late: bool,
}

impl Verdict {
    pub(super) fn yes(detail: impl fmt::Display) -> Verdict {
        Verdict::new(Outcome::Yes, detail)
    }

    pub(super) fn no(detail: impl fmt::Display) -> Verdict {
        Verdict::new(Outcome::No, detail)
    }

    pub(super) fn unknown(detail: impl fmt::Display) -> Verdict {
        Verdict::new(Outcome::Unknown, detail)
    }

    /// Takes an error for a no: for questions that only words answer.
    pub(super) fn from<T>(result: Result<T, Error>, seen: &str) -> Verdict {
        match result {
            Ok(_) => Verdict::yes(seen),
            Err(why) => Verdict::no(why),
        }
    }

    fn new(outcome: Outcome, detail: impl fmt::Display) -> Verdict {
        Verdict {
            outcome,
            detail: detail.to_string(),
            late: false,
        }
    }
}

/// With which privilege something is tried; always in a mount namespace that ends with the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// That of this process, as `overstore mount` has it.
    Own,
    /// That of a user namespace, if this process has none itself: as `overstore run` has it.
    Run,
}

/// Something to try.
#[derive(Debug, Clone, Copy)]
pub enum Trial<'a> {
    /// Makes the namespaces of `overstore run`.
    Namespace,
    /// Makes a mount namespace as this process is: who may do that may mount.
    Privilege,
    /// Mounts FUSE by our own mount call.
    Fuse(Space),
    /// Mounts FUSE on this scratch directory by `fusermount3`.
    Fusermount(&'a Path),
    /// Mounts OverlayFS of two empty directories.
    Overlay(Space),
    /// Mounts OverlayFS with this lower.
    Lower(Space, &'a Path),
    /// Mounts OverlayFS with the upper and work directory in this scratch directory.
    Upper(Space, &'a Path),
    /// Watches these two directories.
    Watch(&'a Path, &'a Path),
    /// Reads this directory.
    Look(&'a Path),
}

impl<'a> Trial<'a> {
    /// Tries it.
    pub fn verdict(self) -> Verdict {
        let words = [OsStr::new(TRY), OsStr::new(self.word())];
        let paths = self.paths();
        let words = words
            .into_iter()
            .chain(paths.into_iter().flatten().map(Path::as_os_str));
        match ask(words, PATIENCE) {
            Ok(Answer::Ended(Some(0), text)) => Verdict::yes(shown(&text)),
            Ok(Answer::Ended(Some(code), text)) if code == i32::from(NO) => {
                Verdict::no(shown(&text))
            }
            Ok(Answer::Ended(Some(code), text)) if code == i32::from(UNKNOWN) => {
                Verdict::unknown(shown(&text))
            }
            Ok(Answer::Ended(code, _)) => Verdict::unknown(match code {
                Some(code) => format!("the trial ended with exit code {code}"),
                None => "the trial was ended by a signal".to_owned(),
            }),
            Ok(Answer::Late) => Verdict {
                late: true,
                ..Verdict::unknown(format!("no answer within {} s", PATIENCE.as_secs()))
            },
            Err(why) => Verdict::unknown(Error::environment("start the trial", why)),
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Trial::Namespace => "namespace",
            Trial::Privilege => "privilege",
            Trial::Fuse(Space::Own) => "fuse",
            Trial::Fuse(Space::Run) => "fuse-run",
            Trial::Fusermount(_) => "fusermount",
            Trial::Overlay(Space::Own) => "overlay",
            Trial::Overlay(Space::Run) => "overlay-run",
            Trial::Lower(Space::Own, _) => "lower",
            Trial::Lower(Space::Run, _) => "lower-run",
            Trial::Upper(Space::Own, _) => "upper",
            Trial::Upper(Space::Run, _) => "upper-run",
            Trial::Watch(..) => "watch",
            Trial::Look(_) => "look",
        }
    }

    fn paths(self) -> [Option<&'a Path>; 2] {
        match self {
            Trial::Namespace | Trial::Privilege | Trial::Fuse(_) | Trial::Overlay(_) => {
                [None, None]
            }
            Trial::Fusermount(path)
            | Trial::Lower(_, path)
            | Trial::Upper(_, path)
            | Trial::Look(path) => [Some(path), None],
            Trial::Watch(upper, lower) => [Some(upper), Some(lower)],
        }
    }
}

fn shown(text: &[u8]) -> String {
    let text = text.trim_ascii();
    match std::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => text.escape_ascii().to_string(),
    }
}
