// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a layer holds, to the last attribute, so that two moments can be compared.
//!
//! Invariant: taking a manifest changes nothing that a manifest tells (access times are left out).

use super::check::{Must, attribute, attributes, kind};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Path (relative) to description; the root is the empty path.
pub(crate) type Manifest = BTreeMap<PathBuf, String>;

/// Describes everything below `root`, each object by one line.
pub(crate) fn of(root: &Path) -> Manifest {
    let mut manifest = Manifest::new();
    walk(root, Path::new(""), &mut |name, line| {
        manifest.insert(name.to_owned(), line);
    });
    manifest
}

fn walk(root: &Path, name: &Path, tell: &mut impl FnMut(&Path, String)) {
    let path = root.join(name);
    let found = fs::symlink_metadata(&path).must();
    tell(name, describe(&path, &found));
    if found.is_dir() {
        // A directory that its owner may not read cannot be written through either.
        for entry in fs::read_dir(&path).into_iter().flatten() {
            walk(root, &name.join(entry.must().file_name()), tell);
        }
    }
}

/// The change time is part of it: nothing can be changed and set back without it moving.
fn describe(path: &Path, found: &fs::Metadata) -> String {
    let times = (
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    );
    let owner = (found.uid(), found.gid());
    let numbers = (found.ino(), found.nlink(), found.rdev(), found.size());
    let mut line = format!(
        "{} mode {:o} owner {owner:?} numbers {numbers:?} times {times:?}",
        kind(found.file_type()),
        found.mode()
    );
    if found.is_symlink() {
        line += &format!(" target {:?}", fs::read_link(path).must());
    }
    if found.is_file() {
        line += &match fs::read(path) {
            Ok(bytes) => format!(" content {:016x}", hash(&bytes)),
            Err(error) => format!(" content {error}"),
        };
    }
    for name in attributes(path).unwrap_or_default() {
        let value = attribute(path, &name).unwrap_or_default();
        line += &format!(" {name}={}", value.escape_ascii());
    }
    line
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Lists what differs between two manifests, one line each.
pub(crate) fn differences(before: &Manifest, after: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    for name in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(name), after.get(name));
        let line = format!("{}: {old:?} became {new:?}", name.display());
        if old != new && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Lists the whiteouts and overlay attributes of the tree at `root`.
pub(crate) fn markers(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut |name, line| {
        let found = fs::symlink_metadata(root.join(name)).must();
        if found.file_type().is_char_device() && found.rdev() == 0 {
            lines.push(format!("{}: whiteout", name.display()));
        }
        for word in line.split(' ').filter(|word| word.contains(".overlay.")) {
            lines.push(format!("{}: {word}", name.display()));
        }
    });
    lines
}
