// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tree in memory: generated, made on disk, read from it, and written as an archive by the plainest
//! code there is.

use overstore::error::Result;
use overstore::nar::{self, Input, Place};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file, a link or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, Tree>),
}

/// Makes a directory of names.
pub(crate) fn dir<const N: usize>(entries: [(&str, Tree); N]) -> Tree {
    let entries = entries.into_iter();
    Tree::Dir(entries.map(|(name, tree)| (name.into(), tree)).collect())
}

/// Makes a file that is not executable.
pub(crate) fn file(content: &str) -> Tree {
    Tree::File(false, content.into())
}

/// The tree that is known to have 704 bytes as an archive.
pub(crate) fn golden() -> Tree {
    dir([
        ("a", file("hi\n")),
        ("exe", Tree::File(true, b"x".to_vec())),
        ("l", Tree::Link(b"a".to_vec())),
    ])
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
}

impl Tree {
    /// Returns its archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        string(&mut out, b"nix-archive-1");
        self.node(&mut out);
        out
    }

    fn node(&self, out: &mut Vec<u8>) {
        let words = |out: &mut Vec<u8>, words: &[&str]| {
            words.iter().for_each(|word| string(out, word.as_bytes()));
        };
        match self {
            Tree::File(executable, content) => {
                words(out, &["(", "type", "regular"]);
                if *executable {
                    words(out, &["executable", ""]);
                }
                words(out, &["contents"]);
                string(out, content);
            }
            Tree::Link(target) => {
                words(out, &["(", "type", "symlink", "target"]);
                string(out, target);
            }
            Tree::Dir(entries) => {
                words(out, &["(", "type", "directory"]);
                for (name, tree) in entries {
                    words(out, &["entry", "(", "name"]);
                    string(out, name);
                    words(out, &["node"]);
                    tree.node(out);
                    words(out, &[")"]);
                }
            }
        }
        words(out, &[")"]);
    }

    /// Makes it on disk.
    pub(crate) fn make(&self, path: &Path) {
        match self {
            Tree::File(executable, content) => {
                fs::write(path, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            Tree::Link(target) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), path).unwrap();
            }
            Tree::Dir(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    tree.make(&path.join(OsStr::from_bytes(name)));
                }
            }
        }
    }

    /// Reads it from disk.
    pub(crate) fn look(path: &Path) -> Tree {
        let stat = fs::symlink_metadata(path).unwrap();
        if stat.is_symlink() {
            let target = fs::read_link(path).unwrap();
            return Tree::Link(target.as_os_str().as_bytes().to_vec());
        }
        if stat.is_file() {
            return Tree::File(stat.mode() & 0o100 != 0, fs::read(path).unwrap());
        }
        let names = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let entries = names.map(|name| (name.as_bytes().to_vec(), Tree::look(&path.join(&name))));
        Tree::Dir(entries.collect())
    }
}

/// A scratch directory, open.
pub(crate) struct Scratch {
    kept: tempfile::TempDir,
    dir: OwnedFd,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let kept = tempfile::tempdir().unwrap();
        let dir = File::open(kept.path()).unwrap().into();
        Scratch { kept, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.kept.path().join(name)
    }

    pub(crate) fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place::new(self.dir.as_fd(), name.as_bytes(), self.kept.path()).unwrap()
    }

    pub(crate) fn dump(&self, name: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        nar::dump(&self.place(name), &mut out)?;
        Ok(out)
    }

    pub(crate) fn restore(&self, name: &str, archive: &[u8]) -> Result<u64> {
        nar::restore(&self.place(name), &mut Input::new(archive, "test archive"))
    }

    /// Returns every name in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.kept.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// The temporary directory may hold trees that may not be written.
impl Drop for Scratch {
    fn drop(&mut self) {
        for name in self.names() {
            nar::remove_tree(&self.place(&name)).unwrap();
        }
    }
}

/// Requires that everything at and below `path` is canonical.
#[track_caller]
pub(crate) fn assert_canonical(path: &Path) {
    let stat = fs::symlink_metadata(path).unwrap();
    assert_eq!(
        (stat.mtime(), stat.mtime_nsec()),
        (1, 0),
        "{}",
        path.display()
    );
    if stat.is_dir() {
        assert_eq!(stat.mode() & 0o7777, 0o555, "{}", path.display());
        for entry in fs::read_dir(path).unwrap() {
            assert_canonical(&entry.unwrap().path());
        }
    } else if stat.is_file() {
        let expected = if stat.mode() & 0o100 == 0 {
            0o444
        } else {
            0o555
        };
        assert_eq!(stat.mode() & 0o7777, expected, "{}", path.display());
    }
}

fn name(utf8: bool) -> BoxedStrategy<Vec<u8>> {
    let text = "[a-zA-Z0-9 ~.+_-]{1,12}".prop_map(String::into_bytes);
    let other = prop::collection::vec(1u8..=255, 1..20);
    let long = (200usize..=255).prop_map(|len| vec![b'n'; len]);
    let names = if utf8 {
        prop_oneof![8 => text, 1 => long].boxed()
    } else {
        prop_oneof![8 => text, 3 => other, 1 => long].boxed()
    };
    let fits = |name: &Vec<u8>| !name.contains(&b'/') && *name != b"." && *name != b"..";
    names.prop_filter("a name", fits).boxed()
}

/// Trees; with names and targets that are text, if asked for.
pub(crate) fn trees(utf8: bool) -> impl Strategy<Value = Tree> {
    let content = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..70_000).prop_map(|len| vec![b'c'; len]),
    ];
    let leaf = prop_oneof![
        4 => (any::<bool>(), content).prop_map(|(executable, content)| Tree::File(executable, content)),
        1 => name(utf8).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(5, 40, 8, move |inner| {
        prop::collection::btree_map(name(utf8), inner, 0..8).prop_map(Tree::Dir)
    })
}
