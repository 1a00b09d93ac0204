// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a request was not fulfilled, and the one table of mount(8)'s exit codes.
//!
//! Invariant: a fault prints as one line that names the directory or option, and the way out.

use rustix::io::Errno;
use std::fmt;

/// What went wrong, in mount(8)'s terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong (exit code 1).
    Usage,
    /// This process may not make the request (exit code 1).
    Permission,
    /// The system lacks something: memory, `/proc`, a program (exit code 2).
    System,
    /// The mount was refused (exit code 32).
    Mount,
}

/// One failure, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    text: String,
}

/// The result of everything that can fail with a [`Fault`].
pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Describes a wrong request.
    pub fn usage(text: impl Into<String>) -> Fault {
        Fault {
            kind: Kind::Usage,
            text: text.into(),
        }
    }

    /// Describes what the system lacks.
    pub fn system(text: impl Into<String>) -> Fault {
        Fault {
            kind: Kind::System,
            text: text.into(),
        }
    }

    /// Describes a refusal to mount.
    pub fn mount(text: impl Into<String>) -> Fault {
        Fault {
            kind: Kind::Mount,
            text: text.into(),
        }
    }

    /// Describes what the kernel answered to `what`; permission is the caller's affair.
    pub(crate) fn kernel(what: impl fmt::Display, why: Errno) -> Fault {
        let kind = match why {
            Errno::PERM => Kind::Permission,
            Errno::NOMEM | Errno::NFILE | Errno::MFILE => Kind::System,
            _ => Kind::Mount,
        };
        let io = std::io::Error::from(why).to_string();
        let why = io.split(" (os error").next().unwrap_or(&io);
        Fault {
            kind,
            text: format!("{what}: {why}"),
        }
    }

    /// Adds the next step for the user.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Fault {
        self.text = format!("{}; {hint}", self.text);
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns mount(8)'s exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage | Kind::Permission => 1,
            Kind::System => 2,
            Kind::Mount => 32,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
