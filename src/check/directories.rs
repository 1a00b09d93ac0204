// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the directories are there, apart, and as Nix wants them.
//!
//! Invariant: each directory is asked by a process of its own first; what hangs is not asked again.

use super::Subject;
use super::command::{self, Commands, quoted};
use super::fault::{Fault, Findings};
use super::mounted::Standing;
use crate::backend::Request;
use crate::backend::probe::{self, Outcome};
use crate::layout::{Layout, LowerStore};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that is found by reading the layers.
pub(super) const READING: &[&str] = &[
    "whiteout",
    "stray-whiteout",
    "opaque",
    "copied-up",
    "shadow",
    "row-without-files",
    "wrong-modes",
];

/// Which layers can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readable {
    pub(super) lower: bool,
    pub(super) upper: bool,
}

/// Checks the directories.
pub(super) fn check(
    subject: &Subject,
    standing: Standing,
    commands: &Commands<'_>,
    found: &mut Findings,
) -> Readable {
    let layout = &subject.request.layout;
    names(subject, found);
    let covered = layout.lower == layout.merged && standing != Standing::Nothing;
    let view = lower_view(layout, found);
    let lower =
        !covered && present("lower", &layout.lower, layout, found) && view && filled(layout, found);
    let upper = present("upper", &layout.upper, layout, found);
    if lower && upper {
        identities(layout, standing, found);
    }
    if upper {
        upper_mode(layout, commands, found);
        upper_read_only(subject, found);
    }
    if layout.state.is_none() && standing == Standing::Nothing {
        merged(layout, found);
    }
    Readable { lower, upper }
}

/// What the words of the layout alone tell.
fn names(subject: &Subject, found: &mut Findings) {
    let layout = &subject.request.layout;
    if let Err(why) = layout.check_nesting() {
        found.fault(nested(&layout.upper, why.to_string()));
    }
    if !subject.request.options.nix_check {
        return;
    }
    if let Err(why) = layout.nix_check() {
        // Mounting does not help Nix: what does is in the words.
        found.fault(Fault::new("nix-check", &layout.merged, why.to_string()).means(
            "Nix's check-mount cannot find the mount; overstore mounts it with -o nix-check=off only",
        ));
    }
}

fn nested(path: &Path, what: String) -> Fault {
    Fault::new("nesting", path, what)
        .means("neither backend mounts it: a change of one directory would be one of the other")
}

/// Tells whether `path` is there and can be read.
fn present(role: &str, path: &Path, layout: &Layout, found: &mut Findings) -> bool {
    let answers = probe::answers(path);
    if answers.outcome == Outcome::Yes {
        return true;
    }
    if answers.outcome == Outcome::Unknown && !answers.late {
        found.not_checked(READING, path, answers.detail);
        return false;
    }
    if answers.outcome == Outcome::Unknown {
        found.fault(
            Fault::new(
                "no-answer",
                path,
                format!("the {role} directory: {}", answers.detail),
            )
            .means("its filesystem hangs, and so does who uses the store"),
        );
        found.not_checked(READING, path, answers.detail);
        return false;
    }
    match fs::metadata(path) {
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            found.fault(missing(role, path, layout));
            found.not_checked(READING, path, "it does not exist");
        }
        Ok(directory) if !directory.is_dir() => found.fault(
            Fault::new(
                "missing-directory",
                path,
                format!("the {role} directory is none"),
            )
            .means("neither backend can mount the layout")
            .mend(format!("mv {0} {0}.old && mkdir {0}", quoted(path))),
        ),
        Ok(_) | Err(_) => found.not_checked(READING, path, answers.detail),
    }
    false
}

fn missing(role: &str, path: &Path, layout: &Layout) -> Fault {
    let fault = |why: &str| {
        let what = format!("the {role} directory does not exist{why}");
        Fault::new("missing-directory", path, what).means(
            "neither backend can mount the layout; if it is to be elsewhere, correct the layout",
        )
    };
    let above = path
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    let Some(real) = above.and_then(|above| above.canonicalize().ok()) else {
        return fault(": a symlink on the way leads nowhere");
    };
    if !real.is_dir() {
        return fault(&format!(": {} is no directory", real.display()));
    }
    let layers = [&layout.lower, &layout.upper];
    let mut layers = layers.into_iter().filter(|layer| *layer != path);
    if layers.any(|layer| path.starts_with(layer) || is_inside(&real, layer)) {
        return fault(", and is not made, as it would lie inside a layer");
    }
    fault("").mend(format!("mkdir -p {}", quoted(path)))
}

fn merged(layout: &Layout, found: &mut Findings) {
    let absent = layout
        .merged
        .symlink_metadata()
        .is_err_and(|why| matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory));
    if absent {
        found.fault(missing("merged", &layout.merged, layout));
    }
}

/// Whether two names lead to directories inside each other, which their words did not tell.
fn identities(layout: &Layout, standing: Standing, found: &mut Findings) {
    if layout.check_nesting().is_err() {
        return;
    }
    let mut roles = vec![("lower", &layout.lower), ("upper", &layout.upper)];
    let work = layout.work_or_default();
    if work.symlink_metadata().is_ok() {
        roles.push(("work", &work));
    }
    if let Some(state) = layout.state.as_ref().filter(|state| state.is_dir()) {
        roles.push(("state", state));
    }
    // What stands there now is the view.
    if standing == Standing::Nothing && layout.merged != layout.lower {
        roles.push(("merged", &layout.merged));
    }
    for (inner_role, inner) in &roles {
        for (outer_role, outer) in roles.iter().filter(|(role, _)| role != inner_role) {
            // The state may be the parent of everything else.
            let allowed = *outer_role == "state" || (*outer_role, *inner_role) == ("work", "state");
            if !allowed && is_inside(inner, outer) {
                let what = format!(
                    "the {inner_role} directory is, or lies inside, the {outer_role} directory {}",
                    outer.display()
                );
                found.fault(nested(inner, what));
            }
        }
    }
}

/// Whether a parent of `inner`, or itself, is the directory `outer`.
fn is_inside(inner: &Path, outer: &Path) -> bool {
    let identity = |path: &Path| {
        fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    let Some(outer) = identity(outer) else {
        return false;
    };
    let real = inner
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from(inner));
    real.ancestors().any(|above| identity(above) == Some(outer))
}

/// Nix makes the store directory 1775, or leaves it as it finds it where it has no build users.
fn upper_mode(layout: &Layout, commands: &Commands<'_>, found: &mut Findings) {
    let Ok(upper) = fs::metadata(&layout.upper) else {
        return;
    };
    let mode = upper.mode() & 0o7777;
    let readers = mode & 0o755 == 0o755;
    let others = mode & 0o002 == 0 && (mode & 0o020 == 0 || mode & 0o1000 != 0);
    if readers && others {
        return;
    }
    let what = format!("the upper directory, and with it the store's, has mode {mode:04o}");
    let command = format!("chmod 1775 {}", quoted(&layout.upper));
    found.fault(
        Fault::new("wrong-modes", &layout.upper, what)
            .means(
                "Nix wants 1775 or 0755: else users of the store are locked out, or replace objects",
            )
            .mend(commands.unmounted(&command)),
    );
}

/// Nobody writes to such an upper: a view of it is for reading.
fn upper_read_only(subject: &Subject, found: &mut Findings) {
    let Request {
        layout, options, ..
    } = &subject.request;
    if options.attributes.read_only() || !command::is_read_only(&layout.upper) {
        return;
    }
    let what = "the upper directory is on a read-only filesystem; remount that for writing, or mount \
                the view with -o ro";
    found.fault(
        Fault::new("upper-read-only", &layout.upper, what)
            .means("nothing can be built or fetched into the store, nor mended in the upper"),
    );
}

/// An empty lower is what stands where its filesystem is not mounted: nothing in the upper is judged
/// by what it lacks.
fn filled(layout: &Layout, found: &mut Findings) -> bool {
    let why = match fs::read_dir(&layout.lower).map(|mut names| names.next()) {
        Ok(Some(_)) => return true,
        Ok(None) => "the lower directory is empty: is its filesystem mounted?".to_owned(),
        Err(why) => why.to_string(),
    };
    found.not_checked(READING, &layout.lower, why);
    false
}

/// A lower that is a view itself must be mounted to have objects. Tells whether it is, at every depth.
fn lower_view(layout: &Layout, found: &mut Findings) -> bool {
    let LowerStore::Overlay(inner) = &layout.lower_store else {
        return true;
    };
    // The innermost is to be mounted first.
    let below = lower_view(inner, found);
    let mounted = match super::mounted::is_mounted(inner) {
        Ok(true) => true,
        Ok(false) => {
            found.fault(
                Fault::new(
                    "lower-not-mounted",
                    &inner.merged,
                    "the view of the lower store is not mounted",
                )
                .means("the lower has none of its objects; mount it before this one")
                .mend(super::mount_by_layers(inner)),
            );
            found.not_checked(READING, &layout.lower, "its view is not mounted");
            false
        }
        Err(why) => {
            found.not_checked(&["lower-not-mounted"], &inner.merged, why);
            false
        }
    };
    below && mounted
}
