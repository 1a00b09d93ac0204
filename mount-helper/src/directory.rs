// SPDX-License-Identifier: MIT OR Apache-2.0
//! One directory, found by walking down from the root, and held.
//!
//! Invariant: no symlink was followed, so the path is the directory's own, and the descriptors'
//! identities on the way are those of its parents.

use crate::fault::{Fault, Result};
use crate::identity::{Identity, mount_id};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The longest path that the kernel takes, without its NUL.
const PATH_BYTES: usize = 4095;

const HOLD: OFlags = OFlags::PATH
    .union(OFlags::NOFOLLOW)
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory that was found.
#[derive(Debug)]
pub(crate) struct Directory {
    /// What it is for, in messages.
    pub(crate) role: &'static str,
    /// Its path, without `.`, `..`, doubled and trailing slashes.
    pub(crate) path: PathBuf,
    /// Itself, opened with `O_PATH`.
    pub(crate) fd: OwnedFd,
    /// Its identity.
    pub(crate) identity: Identity,
    /// The identities of its parents, from the root down.
    pub(crate) parents: Vec<Identity>,
}

impl Directory {
    /// Finds the directory at `path`.
    pub(crate) fn find(role: &'static str, path: &Path) -> Result<Directory> {
        let path = plain(role, path)?;
        let (fd, parents) = walk(role, &path)?;
        let identity = Identity::of(&fd).map_err(|why| look(role, &path, why))?;
        Ok(Directory {
            role,
            path,
            fd,
            identity,
            parents,
        })
    }

    /// Returns a path that leads to the descriptor, wherever the directory is now.
    pub(crate) fn by_descriptor(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Opens it for reading, which asks for more than holding it does.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.fd, ".", flags, Mode::empty()).map_err(|why| {
            let what = format!("read {} {}", self.role, printable(&self.path));
            Fault::kernel(what, why)
        })
    }

    /// Refuses if the path leads elsewhere by now.
    pub(crate) fn still_there(&self) -> Result<()> {
        let (fd, _) = walk(self.role, &self.path)?;
        let same = Identity::of(&fd) == Ok(self.identity) && mount_id(&fd) == mount_id(&self.fd);
        if same {
            return Ok(());
        }
        Err(Fault::mount(format!(
            "{} {}: it was replaced by another directory meanwhile",
            self.role,
            printable(&self.path)
        )))
    }
}

/// Returns a path for a message: bytes that are not printable ASCII are escaped.
pub fn printable(path: impl AsRef<Path>) -> String {
    path.as_ref()
        .as_os_str()
        .as_bytes()
        .escape_ascii()
        .to_string()
}

/// Returns `path` in its shortest spelling, if it can be one of a mount.
pub(crate) fn plain(role: &str, path: &Path) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    let wrong = |why: &str| Fault::usage(format!("{role} {}: {why}", shortened(path)));
    if bytes.is_empty() {
        return Err(wrong("the path is empty"));
    }
    if bytes.len() > PATH_BYTES {
        return Err(wrong(&format!("longer than {PATH_BYTES} bytes")));
    }
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(wrong(
            "it has a line break or another control character, which lists of mounts do not survive",
        ));
    }
    if !path.is_absolute() {
        return Err(wrong("not an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(wrong("write the path without `..`"));
    }
    Ok(path.components().collect())
}

/// A path that is too long for one line says nothing more by being shown whole.
fn shortened(path: &Path) -> String {
    const SHOWN: usize = 200;
    match path.as_os_str().as_bytes() {
        long if long.len() > PATH_BYTES => format!("{}...", long[..SHOWN].escape_ascii()),
        _ => printable(path),
    }
}

/// Walks down from the root, one name at a time.
fn walk(role: &str, path: &Path) -> Result<(OwnedFd, Vec<Identity>)> {
    let mut at = PathBuf::from("/");
    let mut fd = openat(CWD, "/", HOLD, Mode::empty()).map_err(|why| look(role, &at, why))?;
    let mut parents = Vec::new();
    for name in path.components().skip(1) {
        let name = name.as_os_str();
        parents.push(Identity::of(&fd).map_err(|why| look(role, &at, why))?);
        at.push(name);
        fd = match openat(&fd, name, HOLD, Mode::empty()) {
            Ok(next) => next,
            Err(why) => return Err(stopped(role, path, &fd, name, &at, why)),
        };
    }
    Ok((fd, parents))
}

/// Explains why the walk ended at `at`.
fn stopped(
    role: &str,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
    at: &Path,
    why: Errno,
) -> Fault {
    if matches!(why, Errno::NOTDIR | Errno::LOOP) && readlinkat(parent, name, Vec::new()).is_ok() {
        let fault = Fault::usage(format!(
            "{role} {}: {} is a symlink",
            printable(path),
            printable(at)
        ));
        return match path.canonicalize() {
            Ok(real) => fault.hint(format!("name the directory itself: {}", printable(real))),
            Err(_) => fault.hint("name the directory itself"),
        };
    }
    let fault = look(role, at, why);
    match why {
        Errno::NOENT => fault.hint("create it: mkdir -p"),
        Errno::NOTCONN => fault.hint("the FUSE driver behind it is gone: unmount it"),
        _ => fault,
    }
}

fn look(role: &str, path: &Path, why: Errno) -> Fault {
    Fault::kernel(format!("{role} {}", printable(path)), why)
}
