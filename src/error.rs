// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error every command ends with, and the one table of exit codes.
//!
//! Invariant: an error says what was attempted, on which path or setting, why it failed and,
//! where there is one, the way out; it prints as one line.

use std::fmt;
use std::path::Path;

/// What went wrong in the terms of a caller of the program; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The question was answered, and the answer is no (exit code 1).
    Negative,
    /// The request itself is wrong: unknown option, bad URL, impossible layout (exit code 2).
    Usage,
    /// The machine refused: missing device, permission, I/O error (exit code 3).
    Environment,
    /// Data on disk contradicts itself: database, markers, store objects (exit code 4).
    Corrupt,
}

impl Kind {
    /// Returns the exit code of a command that ends with an error of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Negative => 1,
            Kind::Usage => 2,
            Kind::Environment => 3,
            Kind::Corrupt => 4,
        }
    }
}

/// One failure, ready to be shown: `WHAT SUBJECT: WHY; HINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    what: String,
    why: String,
    hint: Option<String>,
    errno: Option<i32>,
}

/// The result of everything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Describes a failure of `what` ("open upper directory /u") because of `why`.
    pub fn new(kind: Kind, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Error {
            kind,
            what: what.into(),
            why: without_number(&why.to_string()).to_owned(),
            hint: None,
            errno: None,
        }
    }

    /// Describes a wrong request.
    pub fn usage(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, what, why)
    }

    /// Describes a refusal by the machine.
    pub fn environment(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Kind::Environment, what, why)
    }

    /// Describes a refusal by the machine on one path: "`verb` PATH: why".
    pub fn on(verb: &str, path: impl AsRef<Path>, why: impl fmt::Display) -> Self {
        Self::environment(format!("{verb} {}", shown(path.as_ref())), why)
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Notes the system's number of the error, for who must tell one refusal from another.
    #[must_use]
    pub fn caused_by(mut self, errno: i32) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Returns the system's number of the error, where that was noted.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// Returns the kind, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// A path as it is read by people; a line break in it would break the message.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text
    }
}

/// Errors of the system name themselves; their number adds nothing for a reader.
fn without_number(why: &str) -> &str {
    match why.rfind(" (os error ") {
        Some(at) if why.ends_with(')') => &why[..at],
        _ => why,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_words() {
        let error = Error::on("open", "/dev/fuse", std::io::Error::from_raw_os_error(13));
        assert_eq!(error.to_string(), "open /dev/fuse: Permission denied");
    }

    #[test]
    fn prints_as_one_line_with_the_way_out() {
        let error = Error::on("open", "/dev/fuse", "permission denied").hint("run as root");
        assert_eq!(
            error.to_string(),
            "open /dev/fuse: permission denied; run as root"
        );
        assert_eq!(error.kind().exit_code(), 3);
    }
}
