// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees are made canonical, or refused before anything has changed.

use crate::skip::skip;
use crate::tree::{Scratch, Tree, assert_canonical, dir, file, golden, trees};
use overstore::nar::{Links, canonicalise};
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_becomes_canonical_and_stays_the_same(tree in trees(false)) {
        let scratch = Scratch::new();
        tree.make(&scratch.path("d"));
        for _ in 0..2 {
            canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
            assert_canonical(&scratch.path("d"));
            prop_assert_eq!(&Tree::look(&scratch.path("d")), &tree);
        }
    }
}

#[test]
fn odd_modes_go() {
    let scratch = Scratch::new();
    let modes = [0o600, 0o4711, 0o2777, 0o1666, 0o400, 0o100];
    dir([]).make(&scratch.path("d"));
    for mode in modes {
        let path = scratch.path(&format!("d/{mode:o}"));
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(scratch.path("d"), Permissions::from_mode(0o2700)).unwrap();
    canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
    assert_canonical(&scratch.path("d"));
    for mode in modes {
        let now = fs::metadata(scratch.path(&format!("d/{mode:o}")))
            .unwrap()
            .mode()
            & 0o7777;
        assert_eq!(
            now,
            if mode & 0o100 == 0 { 0o444 } else { 0o555 },
            "{mode:o}"
        );
    }
}

#[test]
fn the_time_of_last_access_stays() {
    let scratch = Scratch::new();
    file("x").make(&scratch.path("f"));
    let before = fs::metadata(scratch.path("f")).unwrap();
    canonicalise(&scratch.place("f"), Links::Refuse).unwrap();
    let after = fs::metadata(scratch.path("f")).unwrap();
    assert_eq!(
        (after.atime(), after.atime_nsec()),
        (before.atime(), before.atime_nsec())
    );
}

#[test]
fn files_that_are_linked_from_outside_are_refused_untouched() {
    let scratch = Scratch::new();
    dir([("a", file("a")), ("b", file("b"))]).make(&scratch.path("d"));
    fs::hard_link(scratch.path("d/b"), scratch.path("outside")).unwrap();
    let error = canonicalise(&scratch.place("d"), Links::Refuse)
        .unwrap_err()
        .to_string();
    assert!(error.contains("d/b: the file has links outside"), "{error}");
    assert_ne!(fs::metadata(scratch.path("d/a")).unwrap().mtime(), 1);
    canonicalise(&scratch.place("d"), Links::Allow).unwrap();
    assert_canonical(&scratch.path("d"));
}

/// As Nix allows a build to link its own files.
#[test]
fn links_inside_of_the_tree_are_its_own() {
    let scratch = Scratch::new();
    dir([("a", file("a"))]).make(&scratch.path("d"));
    fs::hard_link(scratch.path("d/a"), scratch.path("d/b")).unwrap();
    canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
    assert_canonical(&scratch.path("d"));
}

#[test]
fn other_types_are_refused_untouched() {
    let scratch = Scratch::new();
    golden().make(&scratch.path("d"));
    let status = std::process::Command::new("mkfifo")
        .arg(scratch.path("d/z"))
        .status();
    assert!(status.unwrap().success());
    let error = canonicalise(&scratch.place("d"), Links::Refuse)
        .unwrap_err()
        .to_string();
    assert!(error.contains("d/z: it is a named pipe"), "{error}");
    assert_ne!(fs::metadata(scratch.path("d/a")).unwrap().mtime(), 1);
}

#[test]
fn extended_attributes_go_and_those_of_overlayfs_stay() {
    let scratch = Scratch::new();
    golden().make(&scratch.path("d"));
    let names = ["user.mine", "user.overlay.opaque"];
    for name in names {
        for path in ["d", "d/a"] {
            let path = scratch.path(path);
            let set = rustix::fs::setxattr(path, name, b"y", XattrFlags::empty());
            if set == Err(rustix::io::Errno::OPNOTSUPP) {
                return skip("the temporary directory takes no extended attributes");
            }
            set.unwrap();
        }
    }
    canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
    for path in ["d", "d/a"] {
        let mut list = [0; 4096];
        let count = rustix::fs::listxattr(scratch.path(path), &mut list).unwrap();
        let list = list[..count]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        let left: Vec<&[u8]> = list.filter(|name| name.starts_with(b"user.")).collect();
        assert_eq!(left, [b"user.overlay.opaque"], "{path}");
    }
}

#[test]
fn another_owner_becomes_the_caller() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can give files away");
    }
    let scratch = Scratch::new();
    dir([("a", file("a"))]).make(&scratch.path("d"));
    for path in ["d/a", "d"] {
        chown(scratch.path(path), Some(1234), Some(1234)).unwrap();
    }
    fs::hard_link(scratch.path("d/a"), scratch.path("d/b")).unwrap();
    canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
    for path in ["d/a", "d"] {
        let stat = fs::metadata(scratch.path(path)).unwrap();
        let caller = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        assert_eq!((stat.uid(), stat.gid()), caller, "{path}");
    }
}
