// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the marks and names of the upper mean together with the databases.
//!
//! Invariant: one cause is one fault: an object that must be removed is not complained about in
//! parts.

use super::command::{self, Commands, quoted};
use super::fault::{Fault, Findings};
use super::state::{Lower, Upper};
use super::upper::{Object, Walk, word};
use crate::layout::Layout;
use crate::store::{ObjectName, StoreDir};
use std::path::{Path, PathBuf};

/// Where the kernel keeps what it shares between files; it is the upper's alone.
const LINKS: &[u8] = b".links";

/// What one name is judged by.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub(super) layout: &'a Layout,
    pub(super) walk: Walk<'a>,
    pub(super) upper: &'a Upper,
    pub(super) lower: &'a Lower,
    pub(super) commands: &'a Commands<'a>,
}

/// What the databases say of a name.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Whether it has a row in the upper database.
    row: Option<bool>,
    /// Whether it is valid in the lower store.
    below: Option<bool>,
}

impl Scan<'_> {
    /// Checks every name at the top of the upper, and what is below.
    pub(super) fn run(&self, found: &mut Findings) {
        let upper = &self.layout.upper;
        let names = match self.walk.names() {
            Ok(names) => names,
            Err(errno) => {
                return found.not_checked(super::directories::READING, upper, errno);
            }
        };
        self.top(found);
        for name in names {
            self.name(&name, found);
        }
    }

    /// The marks of the upper directory itself.
    fn top(&self, found: &mut Findings) {
        let names = match self.walk.of_top() {
            Ok(names) => names,
            Err(errno) => {
                return found.not_checked(&["opaque", "copied-up"], &self.layout.upper, errno);
            }
        };
        let mut object = Object::default();
        for name in names {
            let path = PathBuf::new();
            if name.ends_with(b".opaque") {
                object.opaque.push((path, name));
            } else if !name.ends_with(b".uuid") && !name.ends_with(b".impure") {
                // The kernel gives every upper a number, and notes on it that something was copied
                // up once.
                object.copied.push((path, name));
            }
        }
        self.opaque(&object, found);
        self.copied(&object, found);
    }

    fn name(&self, name: &[u8], found: &mut Findings) {
        let known = self.known(name);
        let object = self.walk.object(name);
        for (path, why) in &object.unread {
            let path = self.layout.upper.join(path);
            found.not_checked(super::directories::READING, &path, why);
        }
        for (path, why) in &object.unsure {
            const HIDING: &[&str] = &["whiteout", "stray-whiteout", "opaque"];
            found.not_checked(HIDING, &self.layout.upper.join(path), why);
        }
        let is_top = |path: &PathBuf| path.components().count() == 1;
        let hidden = object
            .whiteouts
            .iter()
            .chain(&object.stray)
            .chain(object.unsure.iter().map(|(path, _)| path))
            .any(is_top);
        if !hidden && known.row == Some(false) && known.below == Some(true) {
            return self.shadowed(name, &object, found);
        }
        self.whiteouts(&object, found);
        if known.row != Some(true) || object.opaque.iter().any(|(path, _)| !is_top(path)) {
            self.opaque(&object, found);
        }
        if name != LINKS {
            self.copied_object(name, known, &object, found);
        } else {
            self.copied(&object, found);
        }
        if known.row == Some(true) && !hidden {
            self.unsealed(name, &object, found);
        }
    }

    fn full(&self, path: &Path) -> PathBuf {
        match path.as_os_str().is_empty() {
            true => self.layout.upper.clone(),
            false => self.layout.upper.join(path),
        }
    }

    fn known(&self, name: &[u8]) -> Known {
        let parsed = ObjectName::parse(name).ok();
        let directory = StoreDir::new(&self.layout.store_dir);
        let path = match (&parsed, &directory) {
            (Some(name), Some(directory)) => directory.store_path(name),
            _ => {
                return Known {
                    row: Some(false),
                    below: Some(false),
                };
            }
        };
        let path = path.display().to_string();
        Known {
            row: self.upper.has(&path),
            below: self.lower.is_valid(&path),
        }
    }

    /// What the lower's files do not stand in for is not to be removed.
    fn shadowed(&self, name: &[u8], object: &Object, found: &mut Findings) {
        let not_known = match self.walk.lower_has(name) {
            Ok(true) => return found.fault(self.shadow(name, object)),
            Ok(false) => "the lower's database has it, the lower directory does not".to_owned(),
            Err(why) => why,
        };
        let path = self.layout.upper.join(word(name));
        found.not_checked(super::directories::READING, &path, not_known);
    }

    /// A name that nobody registered, before a valid object of the lower.
    fn shadow(&self, name: &[u8], object: &Object) -> Fault {
        let path = self.layout.upper.join(word(name));
        let directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let mend = self.commands.at_top(&command::remove(&path, directory));
        let fault = match object.copied.first() {
            Some((_, mark)) => Fault::new(
                "copied-up",
                &path,
                format!(
                    "OverlayFS copied it up from the lower ({})",
                    mark.escape_ascii()
                ),
            ),
            None => Fault::new(
                "shadow",
                &path,
                "nobody registered it, and it stands before a valid object of the lower",
            ),
        };
        let means = "readers get these files, which nobody vouches for, instead of the lower's";
        fault.means(means).mend(mend)
    }

    fn whiteouts(&self, object: &Object, found: &mut Findings) {
        let kinds = [
            (
                "whiteout",
                &object.whiteouts,
                "a whiteout hides what the lower has under this name",
                "the object is valid for the database and missing for readers",
            ),
            (
                "stray-whiteout",
                &object.stray,
                "a whiteout without anything in the lower to hide",
                "FUSE shows it as a device; a lower that gains the name will not show it",
            ),
        ];
        for (id, paths, what, means) in kinds {
            let full: Vec<PathBuf> = paths
                .iter()
                .map(|path| self.layout.upper.join(path))
                .collect();
            let Some((first, more)) = full.split_first() else {
                continue;
            };
            let names: Vec<String> = full.iter().map(quoted).collect();
            let command = self.in_writable(&full, format!("rm -f {}", names.join(" ")));
            let top = paths.iter().all(|path| path.components().count() == 1);
            let mend = match top {
                true => self.commands.at_top(&command),
                false => self.commands.unmounted(&command),
            };
            let mut fault = Fault::new(id, first, what).means(means).mend(mend);
            fault.more = more.to_vec();
            found.fault(fault);
        }
    }

    /// Lets names be removed from directories that are sealed, for owners who are not root.
    fn in_writable(&self, paths: &[PathBuf], command: String) -> String {
        let mut parents: Vec<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
        parents.retain(|parent| *parent != self.layout.upper);
        parents.sort_unstable();
        parents.dedup();
        if parents.is_empty() {
            return command;
        }
        // Times too are as before.
        let each = parents.iter().map(|parent| {
            let path = quoted(parent);
            (
                format!("chmod u+w {path}"),
                format!("chmod u-w {path} && touch -m -d @1 {path}"),
            )
        });
        let (before, after): (Vec<String>, Vec<String>) = each.unzip();
        command::all(before.into_iter().chain([command]).chain(after))
    }

    fn opaque(&self, object: &Object, found: &mut Findings) {
        const WHAT: &str = "an opaque directory hides the lower's of the same name";
        const MEANS: &str = "what only the lower has inside is missing for readers";
        self.attributes("opaque", &object.opaque, WHAT, MEANS, found);
    }

    fn copied(&self, object: &Object, found: &mut Findings) {
        const WHAT: &str = "a mark that OverlayFS leaves on what it copied up from the lower";
        const MEANS: &str = "a view of the kernel has been changed as no store is; what was copied hides the lower's";
        self.attributes("copied-up", &object.copied, WHAT, MEANS, found);
    }

    /// Copied-up parts of an object: without a row of its own the copy goes, else the marks do.
    fn copied_object(&self, name: &[u8], known: Known, object: &Object, found: &mut Findings) {
        if object.copied.is_empty() {
            return;
        }
        if known.below != Some(true) {
            return self.copied(object, found);
        }
        let mut fault = self.shadow(name, object);
        fault.means =
            "a copy of what the lower has, with a row of its own: the lower's serves as well";
        found.fault(fault);
    }

    fn attributes(
        &self,
        id: &'static str,
        marks: &[(PathBuf, Vec<u8>)],
        what: &str,
        means: &'static str,
        found: &mut Findings,
    ) {
        let full: Vec<(PathBuf, String)> = marks
            .iter()
            .map(|(path, name)| (self.full(path), quoted(word(name))))
            .collect();
        let Some(((first, name), _)) = full.split_first() else {
            return;
        };
        let mut fault = Fault::new(id, first, format!("{what} ({name})")).means(means);
        fault.more = full.iter().skip(1).map(|(path, _)| path.clone()).collect();
        fault.more.dedup();
        let follows = [b"redirect".as_slice(), b"metacopy"];
        let elsewhere =
            |(_, name): &(PathBuf, Vec<u8>)| follows.iter().any(|end| name.ends_with(end));
        if marks.iter().any(elsewhere) {
            fault.what += "; its data is elsewhere in the lower";
            found.fault(fault);
            return;
        }
        let commands = full.iter().map(|(path, name)| {
            let path = quoted(path);
            match name.starts_with("user.") {
                // Such attributes ask for the right to write.
                true => format!(
                    "m=$(stat -c %a {path}) && chmod u+w {path} && setfattr -x {name} {path} && chmod $m {path}"
                ),
                false => format!("setfattr -h -x {name} {path}"),
            }
        });
        found.fault(fault.mend(self.commands.unmounted(&command::all(commands))));
    }

    fn unsealed(&self, name: &[u8], object: &Object, found: &mut Findings) {
        let Some((first, more)) = object.unsealed.split_first() else {
            return;
        };
        let path = self.layout.upper.join(word(name));
        let shown = quoted(&path);
        let modes = format!("chmod -R a-w,a+rX,u-s,g-s,o-t {shown}");
        let times = format!("find {shown} -exec touch -h -m -d @1 {{}} +");
        let is_link = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        let command = match is_link {
            true => times,
            false => command::all([modes, times]),
        };
        let what = "a valid object is not read-only (0444, 0555) with mtime 1";
        let mut fault = Fault::new("wrong-modes", &self.layout.upper.join(first), what)
            .means("its contents may change, or have changed, under the hash that is registered")
            .mend(self.commands.unmounted(&command));
        fault.more = more
            .iter()
            .map(|path| self.layout.upper.join(path))
            .collect();
        found.fault(fault);
    }
}
