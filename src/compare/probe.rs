// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions that are refused: both sides must refuse them alike.
//!
//! Invariant: what would change something is only asked of views that are mounted read-only.

use super::side::{At, Both, Got};
use super::xattrs;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;

/// Who is asked a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Anything,
    Directory,
    /// Anything but a symlink, for questions that follow one.
    NotSymlink,
    NotDirectory,
    FileOrDirectory,
}

/// One question.
struct Probe {
    name: &'static str,
    of: Of,
    /// Whether it would change something if it were not refused.
    changes: bool,
    ask: fn(At<'_>) -> Got<()>,
}

/// How questions begin that ask for one extended attribute of the overlay.
pub(super) const ASKED: &str = "the attribute ";

/// Told of a question that is not refused.
pub(super) const SUCCEEDS: &str = "succeeds";

/// A name that nobody has.
const MISSING: &str = ".overstore-compare-missing";

const fn harmless(name: &'static str, of: Of, ask: fn(At<'_>) -> Got<()>) -> Probe {
    Probe {
        name,
        of,
        changes: false,
        ask,
    }
}

const fn change(name: &'static str, of: Of, ask: fn(At<'_>) -> Got<()>) -> Probe {
    Probe {
        name,
        of,
        changes: true,
        ask,
    }
}

const PROBES: [Probe; 19] = [
    harmless("a missing name below", Of::NotSymlink, |at| {
        below(at, MISSING)
    }),
    harmless("a name of 256 bytes below", Of::Directory, |at| {
        below(at, &"n".repeat(256))
    }),
    harmless("a path of 4,200 bytes below", Of::Directory, |at| {
        below(at, &"./".repeat(2100))
    }),
    harmless("open a missing name below", Of::Directory, |at| {
        let name = joined(at, MISSING);
        rustix::fs::openat(
            at.dir,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(drop)
    }),
    harmless("readlink", Of::NotSymlink, |at| at.target().map(drop)),
    harmless("open as a directory", Of::NotDirectory, |at| {
        at.open(OFlags::DIRECTORY).map(drop)
    }),
    harmless("a missing attribute", Of::Anything, |at| {
        xattrs::one(at, "user.overstore-compare-missing")
    }),
    harmless("the attribute trusted.overlay.origin", Of::Anything, |at| {
        hidden(at, "trusted.overlay.origin")
    }),
    harmless("the attribute trusted.overlay.opaque", Of::Anything, |at| {
        hidden(at, "trusted.overlay.opaque")
    }),
    harmless("the attribute user.overlay.opaque", Of::Anything, |at| {
        hidden(at, "user.overlay.opaque")
    }),
    harmless("access for reading", Of::NotSymlink, |at| {
        access(at, Access::READ_OK)
    }),
    harmless("access for writing", Of::NotSymlink, |at| {
        access(at, Access::WRITE_OK)
    }),
    harmless("access for executing", Of::NotSymlink, |at| {
        access(at, Access::EXEC_OK)
    }),
    change("mkdir in its place", Of::Anything, |at| {
        rustix::fs::mkdirat(at.dir, at.name, Mode::RWXU)
    }),
    change("open for writing", Of::FileOrDirectory, |at| {
        at.open(OFlags::WRONLY).map(drop)
    }),
    change("open for writing, emptied", Of::FileOrDirectory, |at| {
        at.open(OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    change("chmod", Of::NotSymlink, |at| {
        rustix::fs::chmodat(at.dir, at.name, Mode::RWXU, AtFlags::empty())
    }),
    change("create a file below", Of::Directory, |at| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(at.dir, joined(at, MISSING), flags, Mode::RWXU).map(drop)
    }),
    change("mkdir below", Of::Directory, |at| {
        rustix::fs::mkdirat(at.dir, joined(at, MISSING), Mode::RWXU)
    }),
];

/// Asks everything that fits an object of `kind` on both sides.
pub(super) fn all(
    at: Both<At<'_>>,
    kind: FileType,
    changes: bool,
) -> impl Iterator<Item = (&'static str, Both<Got<()>>)> {
    let fits = move |of: Of| match of {
        Of::Anything => true,
        Of::Directory => kind == FileType::Directory,
        Of::NotSymlink => kind != FileType::Symlink,
        Of::NotDirectory => kind != FileType::Directory,
        Of::FileOrDirectory => matches!(kind, FileType::RegularFile | FileType::Directory),
    };
    PROBES
        .iter()
        .filter(move |probe| fits(probe.of) && (changes || !probe.changes))
        .map(move |probe| (probe.name, at.map(probe.ask)))
}

fn joined(at: At<'_>, name: &str) -> OsString {
    let mut path = at.name.to_owned();
    path.push("/");
    path.push(name);
    path
}

fn below(at: At<'_>, name: &str) -> Got<()> {
    rustix::fs::statat(at.dir, joined(at, name), AtFlags::SYMLINK_NOFOLLOW).map(drop)
}

fn access(at: At<'_>, wanted: Access) -> Got<()> {
    rustix::fs::accessat(at.dir, at.name, wanted, AtFlags::EACCESS)
}

/// The overlay's own attributes are not there: kernels say so in two ways.
fn hidden(at: At<'_>, name: &str) -> Got<()> {
    match xattrs::one(at, name) {
        Err(Errno::OPNOTSUPP) => Err(Errno::NODATA),
        got => got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = PROBES.iter().map(|probe| probe.name.as_bytes()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
        assert!(MISSING.len() < 255);
    }
}
