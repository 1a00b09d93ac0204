// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories for a trial.
//!
//! Invariants: what is made here is removed here, also when the trial was left behind or killed and
//! when this process is ended by a signal that can be held back; what a killed process has left, the
//! next one removes. Nothing outside is touched, whatever others do to the names above.

use super::super::best_effort;
use super::super::{fusermount, mountinfo};
use super::trial::{Outcome, Space, Trial, Verdict};
use crate::error::Error;
use crate::layout::Layout;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, unlinkat};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How the names of scratch directories begin.
const PREFIX: &str = ".overstore-probe-";

/// What a user or a service manager ends a program with.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// A directory that is gone when this is. Until then the signals that end a program wait.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
    /// Locked, by which others know that it is in use.
    directory: OwnedFd,
    /// Last: what it holds back may end this process.
    _patience: Held,
}

impl Scratch {
    /// Creates one in `parent`, for this user alone, and removes those that were left there by a
    /// process that could not.
    fn new(parent: &Path) -> io::Result<Scratch> {
        let patience = Held::new()?;
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = rustix::fs::open(parent, open, Mode::empty())?;
        best_effort("remove what a probe left", sweep(&above));
        // By the descriptor, whatever becomes of the path.
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(proc_path(&above))?
            .keep();
        let name = made.file_name().unwrap_or_default().to_owned();
        let directory = open_directory(&above, &name).inspect_err(|_| {
            let removed = unlinkat(&above, &name, AtFlags::REMOVEDIR);
            best_effort("remove a scratch directory", removed);
        })?;
        // A filesystem without locks has nothing swept either.
        if let Err(why) = flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            log::debug!("lock {}: {why}", made.display());
        }
        Ok(Scratch {
            path: parent.join(&name),
            parent: above,
            name,
            directory,
            _patience: patience,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = remove(&self.parent, &self.name, &self.directory);
        best_effort(&format!("remove {}", self.path.display()), removed);
    }
}

/// Signals that are held back; what has come meanwhile acts when this is dropped.
#[derive(Debug)]
struct Held(SigSet);

impl Held {
    fn new() -> io::Result<Held> {
        let ending: SigSet = ENDING.into_iter().collect();
        Ok(Held(ending.thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        best_effort("let signals pass", self.0.thread_set_mask());
    }
}

/// Removes what processes of this user that were killed have left in `parent`: nobody holds its lock.
fn sweep(parent: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(parent)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // One that goes meanwhile, or is in use, is somebody else's to remove.
        let Ok(directory) = open_directory(parent, name) else {
            continue;
        };
        let ours = fstat(&directory)?.st_uid == geteuid().as_raw();
        if ours && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            best_effort("remove what a probe left", remove(parent, name, &directory));
        }
    }
    Ok(())
}

fn open_directory(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn proc_path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Removes the tree `name` in `parent`, which is `directory`, by descriptors: whoever owns what is
/// above may put a symlink in its place at any time, and it is not followed.
fn remove(parent: &OwnedFd, name: &OsStr, directory: &OwnedFd) -> io::Result<()> {
    // OverlayFS leaves this one without any permission.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(work) = openat(directory, "w", flags, Mode::empty())
        && let Ok(inner) = openat(&work, "work", flags, Mode::empty())
    {
        fs::set_permissions(proc_path(&inner), Permissions::from_mode(0o700))?;
    }
    fs::remove_dir_all(proc_path(parent).join(name))
}

/// Has `fusermount3` mount on a scratch directory and unmount it again.
pub(super) fn fusermount() -> Verdict {
    let installed = super::fusermount_installed();
    if installed.outcome != Outcome::Yes {
        return installed;
    }
    let scratch = match Scratch::new(&std::env::temp_dir()) {
        Ok(scratch) => scratch,
        Err(why) => return Verdict::unknown(Error::on("create in", std::env::temp_dir(), why)),
    };
    let verdict = Trial::Fusermount(&scratch.path).verdict();
    // A trial that was left behind may have mounted, and has not unmounted.
    let mounts = mountinfo::read().unwrap_or_default();
    if mountinfo::topmost(&mounts, &scratch.path).is_some() {
        best_effort("end the trial", fusermount::unmount(&scratch.path, true));
    }
    match verdict.outcome {
        Outcome::Yes => Verdict::yes(format!("{}; {}", installed.detail, verdict.detail)),
        Outcome::No | Outcome::Unknown => verdict,
    }
}

/// Has the kernel take `lower`.
pub(super) fn lower(lower: &Path, space: Space) -> Verdict {
    let kind = filesystem(lower);
    let real = match real(lower) {
        Ok(real) => real,
        Err(unknown) => return unknown,
    };
    with_kind(Trial::Lower(space, &real).verdict(), "lower", kind)
}

/// Has the kernel take an upper on the filesystem of `layout`'s.
pub(super) fn upper(layout: &Layout, space: Space) -> Verdict {
    let kind = filesystem(&layout.upper);
    let parent = match beside(layout) {
        Ok(parent) => parent,
        Err(verdict) => return verdict,
    };
    let made = Scratch::new(&parent).and_then(|scratch| {
        for name in ["u", "w"] {
            mkdirat(&scratch.directory, name, Mode::from_raw_mode(0o755))?;
        }
        Ok(scratch)
    });
    let scratch = match made {
        Ok(scratch) => scratch,
        Err(why) => {
            let why = Error::on("create a scratch directory in", &parent, why);
            return Verdict::unknown(format!("not tried: {why}"));
        }
    };
    let verdict = Trial::Upper(space, &scratch.path).verdict();
    let scratch_name = scratch.path.display().to_string();
    let shown = layout.upper.display().to_string();
    let detail = verdict.detail.replace(&scratch_name, &shown);
    with_kind(Verdict { detail, ..verdict }, "upper", kind)
}

/// Finds a directory for scratch on the upper's filesystem.
fn beside(layout: &Layout) -> std::result::Result<PathBuf, Verdict> {
    let work = layout.work_or_default();
    let wanted = match real(&layout.upper) {
        Ok(upper) => device(&upper),
        // It will be made in the directory above.
        Err(_) => layout.upper.parent().and_then(device),
    };
    let candidates = [layout.upper.parent(), work.parent()];
    let mut unseen = None;
    for candidate in candidates.into_iter().flatten() {
        let real = match real(candidate) {
            Ok(real) => real,
            Err(verdict) => {
                unseen = Some(verdict);
                continue;
            }
        };
        if wanted.is_some() && device(&real) == wanted {
            return Ok(real);
        }
    }
    if let Some(verdict) = unseen {
        return Err(verdict);
    }
    let (upper, work) = (layout.upper.display(), work.display());
    Err(match layout.work {
        Some(_) => Verdict::unknown(format!(
            "not tried: neither beside {upper} nor beside {work} is there a place on its filesystem"
        )),
        None => Verdict::no(format!(
            "the work directory {work} would not be on the filesystem of {upper}; name one with -o workdir="
        )),
    })
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}

/// Resolves `path`, unless it hangs.
fn real(path: &Path) -> std::result::Result<PathBuf, Verdict> {
    let answers = Trial::Look(path).verdict();
    if answers.outcome != Outcome::Yes {
        return Err(Verdict::unknown(format!("not tried: {}", answers.detail)));
    }
    fs::canonicalize(path).map_err(|why| Verdict::unknown(Error::on("resolve", path, why)))
}

fn with_kind(verdict: Verdict, role: &str, kind: Option<String>) -> Verdict {
    match kind {
        Some(kind) => Verdict {
            detail: format!("{}; the {role} is on {kind}", verdict.detail),
            ..verdict
        },
        None => verdict,
    }
}

/// Names the filesystem of `path` by the list of mounts, without touching it.
fn filesystem(path: &Path) -> Option<String> {
    let mounts = mountinfo::read().ok()?;
    let mount = path
        .ancestors()
        .find_map(|above| mountinfo::topmost(&mounts, above))?;
    let kind = mount.fs_type.display().to_string();
    // The type of a merged view goes on with its layers.
    Some(kind.split(',').next().unwrap_or_default().to_owned())
}
