// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories for a trial.
//!
//! Invariant: what is made here is removed here, also when the trial was left behind or killed.

use super::super::best_effort;
use super::super::{fusermount, mountinfo};
use super::trial::{Outcome, Space, Trial, Verdict};
use crate::error::{Error, Result};
use crate::layout::Layout;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Directories of which every system has some.
const PLACES: [&str; 8] = [
    "/mnt", "/run", "/tmp", "/media", "/srv", "/var", "/usr", "/proc",
];

/// Returns a directory to mount on, in a namespace that nobody else sees, without hiding `paths`.
pub(super) fn place(paths: &[&Path]) -> Result<PathBuf> {
    let free = |place: &&Path| !paths.iter().any(|path| path.starts_with(place));
    let mut places = PLACES.into_iter().map(Path::new).filter(free);
    let found = places.find(|place| place.symlink_metadata().is_ok_and(|found| found.is_dir()));
    found
        .map(Path::to_owned)
        .ok_or_else(|| Error::environment("find a place to mount", "none of the usual directories"))
}

/// A directory that is gone when this is.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    /// Creates one in `parent`, for this user alone.
    fn new(parent: &Path) -> io::Result<Scratch> {
        let path = parent.join(format!(".overstore-probe-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        best_effort(&format!("remove {}", self.0.display()), remove(&self.0));
    }
}

/// Removes a tree in which OverlayFS may have left directories without any permission.
fn remove(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return fs::remove_file(path);
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
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
    let verdict = Trial::Fusermount(&scratch.0).verdict();
    // A trial that was left behind may have mounted, and has not unmounted.
    let mounts = mountinfo::read().unwrap_or_default();
    if mountinfo::topmost(&mounts, &scratch.0).is_some() {
        best_effort("end the trial", fusermount::unmount(&scratch.0, true));
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
            fs::create_dir(scratch.0.join(name))?;
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
    let verdict = Trial::Upper(space, &scratch.0).verdict();
    let scratch_name = scratch.0.display().to_string();
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
    for candidate in candidates.into_iter().flatten() {
        let Ok(real) = real(candidate) else { continue };
        if wanted.is_some() && device(&real) == wanted {
            return Ok(real);
        }
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
