// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Nix does through the mount when it repairs an object, one system call after the other.

use super::check::{Must, kind, mode_of};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One system call of a repair.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Chmod(PathBuf, u32),
    Unlink(PathBuf),
    Rmdir(PathBuf),
    Mkdir(PathBuf),
    Write(PathBuf, &'static str),
    Rename(PathBuf, PathBuf),
}

impl Step {
    /// Does it.
    pub(crate) fn run(&self) -> io::Result<()> {
        match self {
            Step::Chmod(path, mode) => fs::set_permissions(path, Permissions::from_mode(*mode)),
            Step::Unlink(path) => fs::remove_file(path),
            Step::Rmdir(path) => fs::remove_dir(path),
            Step::Mkdir(path) => fs::create_dir(path),
            Step::Write(path, content) => fs::write(path, content),
            Step::Rename(from, to) => fs::rename(from, to),
        }
    }
}

/// `deletePath`: directories are made writable, emptied and removed. `path` tells what there is to
/// delete, `named` by which name it will go then.
pub(crate) fn delete(path: &Path, named: &Path) -> Vec<Step> {
    if !fs::symlink_metadata(path).must().is_dir() {
        return vec![Step::Unlink(named.to_owned())];
    }
    let mode = mode_of(path) | 0o700;
    let mut steps = vec![Step::Chmod(named.to_owned(), mode)];
    let mut names: Vec<_> = fs::read_dir(path)
        .must()
        .map(|e| e.must().file_name())
        .collect();
    names.sort();
    for name in names {
        steps.extend(delete(&path.join(&name), &named.join(&name)));
    }
    steps.push(Step::Rmdir(named.to_owned()));
    steps
}

/// Writes a new object: a directory, or a file.
pub(crate) fn write(path: &Path, directory: bool) -> Vec<Step> {
    if !directory {
        return vec![
            Step::Write(path.to_owned(), "new"),
            Step::Chmod(path.to_owned(), 0o444),
        ];
    }
    let at = |name: &str| path.join(name);
    vec![
        Step::Mkdir(path.to_owned()),
        Step::Write(at("good"), "new"),
        Step::Mkdir(at("sub")),
        Step::Write(at("sub/f"), "new"),
        Step::Chmod(at("sub"), 0o555),
        Step::Chmod(path.to_owned(), 0o555),
    ]
}

/// The first sequence: delete the object, write the new one in its place.
pub(crate) fn substitute(path: &Path, directory: bool) -> Vec<Step> {
    [delete(path, path), write(path, directory)].concat()
}

/// The second: set the old object aside, move the new one into its place, delete the old one.
pub(crate) fn replace(path: &Path, directory: bool) -> Vec<Step> {
    let (built, old) = (path.with_extension("tmp"), path.with_extension("old-1-2"));
    let mut steps = write(&built, directory);
    if fs::symlink_metadata(path).must().is_dir() {
        let mode = mode_of(path);
        steps.push(Step::Chmod(path.to_owned(), mode | 0o200));
        steps.push(Step::Rename(path.to_owned(), old.clone()));
        steps.push(Step::Chmod(old.clone(), mode));
    } else {
        steps.push(Step::Rename(path.to_owned(), old.clone()));
    }
    steps.push(Step::Rename(built, path.to_owned()));
    steps.extend(delete(path, &old));
    steps
}

/// Every object at and below `path` with its kind and content; empty if there is none.
pub(crate) fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    collect(path, Path::new(""), &mut found);
    found
}

fn collect(root: &Path, name: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let path = root.join(name);
    let path = if name == Path::new("") { root } else { &path };
    let stat = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        stat => stat.must(),
    };
    let mut text = kind(stat.file_type()).to_owned();
    if stat.is_file() {
        text += &format!(" {}", fs::read(path).must().escape_ascii());
    }
    if stat.is_symlink() {
        text += &format!(" {}", fs::read_link(path).must().display());
    }
    found.insert(name.to_owned(), text);
    if stat.is_dir() {
        for entry in fs::read_dir(path).must() {
            collect(root, &name.join(entry.must().file_name()), found);
        }
    }
}
