// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two trees, and what is asked of them: always a directory descriptor and one name.
//!
//! Invariant: no symlink is followed, and what cannot be read is told by its errno.

use super::unreadable;
use crate::error::Result;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a tree answers.
pub(super) type Got<T> = std::result::Result<T, Errno>;

/// How directories are opened.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// What one side shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Absent,
    /// The question was refused.
    Failed(Errno),
    /// This.
    Is(String),
}

impl Value {
    pub(super) fn is(text: impl fmt::Display) -> Value {
        Value::Is(text.to_string())
    }

    pub(super) fn of<T: fmt::Display>(got: &Got<T>) -> Value {
        match got {
            Ok(value) => Value::is(value),
            Err(errno) => Value::Failed(*errno),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Absent => f.write_str("nothing"),
            Value::Failed(errno) => f.write_str(&errno_name(*errno)),
            Value::Is(text) => f.write_str(text),
        }
    }
}

/// Returns the symbol of an error (`EIO`).
pub(super) fn errno_name(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// One name as a listing tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) kind: FileType,
    pub(super) ino: u64,
    /// How often it is listed.
    pub(super) times: u32,
}

/// A pair of answers: the driver's and the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Both<T> {
    pub(super) fuse: T,
    pub(super) kernel: T,
}

impl<T> Both<T> {
    pub(super) fn map<U>(self, f: impl Fn(T) -> U) -> Both<U> {
        Both {
            fuse: f(self.fuse),
            kernel: f(self.kernel),
        }
    }

    pub(super) fn as_ref(&self) -> Both<&T> {
        Both {
            fuse: &self.fuse,
            kernel: &self.kernel,
        }
    }
}

/// The top directories of both trees.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) tops: Both<OwnedFd>,
    /// Whether both refuse every change: only then is one attempted.
    pub(super) read_only: bool,
}

impl Sides {
    pub(super) fn open(fuse: &Path, kernel: &Path) -> Result<Sides> {
        let open = |path: &Path| {
            rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
                .map_err(|why| unreadable(path, why))
        };
        let tops = Both {
            fuse: open(fuse)?,
            kernel: open(kernel)?,
        };
        let refuses = |top: &OwnedFd| {
            rustix::fs::fstatvfs(top)
                .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
        };
        Ok(Sides {
            read_only: refuses(&tops.fuse) && refuses(&tops.kernel),
            tops,
        })
    }
}

/// One object: a name in a directory; the top directory is `.` in itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
}

impl<'a> At<'a> {
    pub(super) fn new(dir: &'a impl AsFd, name: &'a [u8]) -> At<'a> {
        At {
            dir: dir.as_fd(),
            name: OsStr::from_bytes(name),
        }
    }

    pub(super) fn stat(self) -> Got<Stat> {
        rustix::fs::statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn open(self, flags: OFlags) -> Got<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::openat(self.dir, self.name, flags, Mode::empty())
    }

    pub(super) fn target(self) -> Got<Vec<u8>> {
        let target = rustix::fs::readlinkat(self.dir, self.name, Vec::new())?;
        Ok(target.into_bytes())
    }
}

/// Returns the names of a directory, sorted; each once.
pub(super) fn list(dir: impl AsFd) -> Got<Vec<(Vec<u8>, Listed)>> {
    let mut names: Vec<(Vec<u8>, Listed)> = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let listed = Listed {
                kind: entry.file_type(),
                ino: entry.ino(),
                times: 1,
            };
            names.push((name.to_vec(), listed));
        }
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    names.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1.times += u32::from(same);
        same
    });
    Ok(names)
}

/// Names a kind of object.
pub(super) fn kind_word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}

pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether it is the device by which OverlayFS marks what is not there.
pub(super) fn is_zero_device(stat: &Stat) -> bool {
    kind_of(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Names an object in one word, or says why it cannot be looked at.
pub(super) fn presence(got: &Got<Stat>) -> Value {
    match got {
        Ok(stat) if is_zero_device(stat) => Value::is("character device 0/0"),
        Ok(stat) => Value::is(kind_word(kind_of(stat))),
        Err(Errno::NOENT) => Value::Absent,
        Err(errno) => Value::Failed(*errno),
    }
}
