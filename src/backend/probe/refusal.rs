// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which errors of a trial are a no, and which only kept it from looking.
//!
//! Invariant: want of memory, descriptors, room or time is never a no, and neither is what went wrong
//! before the call that is tried.

use crate::error::{Error, Kind};
use overstore_mount::{Fault, Kind as Refused};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// What the kernel answers where it will not do something, today and tomorrow.
const NO: [Errno; 7] = [
    Errno::PERM,
    Errno::ACCESS,
    Errno::NODEV,
    Errno::INVAL,
    Errno::LOOP,
    Errno::OPNOTSUPP,
    Errno::NOSYS,
];

/// What it answers where something is not there.
const MISSING: [Errno; 4] = [Errno::NOENT, Errno::NXIO, Errno::NOTDIR, Errno::NAMETOOLONG];

/// What it answers where something is wanting for the moment, or broken.
const WANTING: [Errno; 13] = [
    Errno::NOMEM,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::ROFS,
    Errno::IO,
    Errno::INTR,
    Errno::BUSY,
    Errno::STALE,
    Errno::NOTCONN,
    Errno::TIMEDOUT,
    Errno::NOENT,
];

/// Whether the error answers the question of a trial.
pub fn says_no(error: &Error) -> bool {
    error.kind() == Kind::Negative || is_one_of(&NO, error.errno())
}

/// Whether the error says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    is_one_of(&MISSING, error.errno())
}

fn is_one_of(numbers: &[Errno], number: Option<i32>) -> bool {
    numbers
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == number)
}

/// Notes on `error` what the call that is tried answered.
pub(super) fn answered(error: Error, why: &io::Error) -> Error {
    match why.raw_os_error() {
        Some(errno) => error.caused_by(errno),
        None => error,
    }
}

/// The error of the mount library, which has words only. The user knows `place` as `shown`.
pub(super) fn of_library(fault: &Fault, place: &Path, shown: &Path) -> Error {
    let (place, shown) = (place.display().to_string(), shown.display().to_string());
    let text = fault.to_string().replace(&place, &shown);
    match fault.kind() == Refused::System || tells(&text, &WANTING) {
        true => Error::environment("OverlayFS", text),
        false => no("OverlayFS", text),
    }
}

/// The error of a program, which has words only.
pub(super) fn of_program(error: Error) -> Error {
    let text = error.to_string();
    match NO.iter().find(|errno| tells(&text, &[**errno])) {
        Some(errno) => error.caused_by(errno.raw_os_error()),
        None => error,
    }
}

/// An answer that needs no number.
pub(super) fn no(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Negative, what, why)
}

/// Whether a text has the system's words for one of `numbers`.
fn tells(text: &str, numbers: &[Errno]) -> bool {
    numbers.iter().any(|errno| {
        let words = io::Error::from(*errno).to_string();
        text.contains(words.split(" (os error").next().unwrap_or(&words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_fault(fault: &Fault) -> Error {
        of_library(fault, Path::new("/place"), Path::new("/shown"))
    }

    #[test]
    fn want_is_no_refusal() {
        for errno in WANTING {
            let error = Error::environment("try", errno).caused_by(errno.raw_os_error());
            assert!(!says_no(&error), "{errno}");
            let fault = Fault::mount(format!("mount: {}", io::Error::from(errno)));
            assert!(!says_no(&of_fault(&fault)), "{errno}");
            let said =
                Error::environment("run", format!("mount failed: {}", io::Error::from(errno)));
            assert!(!says_no(&of_program(said)), "{errno}");
        }
        assert!(
            !says_no(&Error::environment("prepare", Errno::PERM)),
            "before the call"
        );
        assert!(!says_no(&of_fault(&Fault::system("no /proc"))));
    }

    #[test]
    fn a_refusal_is_a_no() {
        for errno in NO {
            let error = Error::environment("try", errno).caused_by(errno.raw_os_error());
            assert!(says_no(&error), "{errno}");
            let fault = Fault::mount(format!("mount: {}", io::Error::from(errno)));
            assert!(says_no(&of_fault(&fault)), "{errno}");
            let said =
                Error::environment("run", format!("mount failed: {}", io::Error::from(errno)));
            assert!(says_no(&of_program(said)), "{errno}");
        }
        assert!(says_no(&of_fault(&Fault::mount(
            "the kernel cannot take virtiofs"
        ))));
    }
}
