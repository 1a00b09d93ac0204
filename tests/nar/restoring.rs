// SPDX-License-Identifier: MIT OR Apache-2.0
//! A restore makes all of a tree or nothing, and touches nothing else.

use crate::tree::{Scratch, Tree, dir, file, golden};
use overstore::nar::{FileHead, Restorer, Sink};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn what_is_there_stays() {
    let archive = golden().archive();
    for there in [
        file("mine"),
        Tree::Link(b"/etc".to_vec()),
        dir([("x", file("mine"))]),
    ] {
        let scratch = Scratch::new();
        there.make(&scratch.path("d"));
        for archive in [
            &archive,
            &file("new").archive(),
            &Tree::Link(b"t".to_vec()).archive(),
        ] {
            let error = scratch.restore("d", archive).unwrap_err().to_string();
            assert!(error.contains("File exists"), "{error}");
            assert_eq!(Tree::look(&scratch.path("d")), there);
        }
    }
}

/// Wherever the archive ends too early or is wrong.
#[test]
fn nothing_is_left_of_a_tree_that_was_not_finished() {
    let tree = dir([
        ("a", golden()),
        ("b", dir([("c", golden())])),
        ("z", file("z")),
    ]);
    for archive in [
        tree.archive(),
        file("content").archive(),
        golden().archive(),
    ] {
        let scratch = Scratch::new();
        for len in (0..archive.len()).step_by(8) {
            assert!(scratch.restore("d", &archive[..len]).is_err());
            assert_eq!(scratch.names(), [""; 0], "after {len} bytes");
            let mut wrong = archive.clone();
            wrong[len + 7] = 0xff;
            assert!(scratch.restore("d", &wrong).is_err());
            assert_eq!(scratch.names(), [""; 0], "with byte {len} changed");
        }
    }
}

#[test]
fn links_are_never_followed() {
    let scratch = Scratch::new();
    dir([]).make(&scratch.path("outside"));
    // The link comes first; then what would go through it.
    let link = Tree::Link(
        scratch
            .path("outside")
            .into_os_string()
            .into_encoded_bytes(),
    );
    let tree = dir([("a", link), ("b", file(""))]);
    let archive = tree.archive();
    let wrong: Vec<u8> = {
        let at = archive
            .windows(8)
            .rposition(|w| w == b"b\0\0\0\0\0\0\0")
            .unwrap();
        let mut wrong = archive.clone();
        wrong[at] = b'a';
        wrong
    };
    assert!(scratch.restore("d", &wrong).is_err());
    assert_eq!(scratch.names(), ["outside"]);
    // Even whoever skips the reader's checks finds the name taken.
    let mut restorer = Restorer::new(scratch.place("d"));
    restorer.directory().unwrap();
    for step in 0..2 {
        restorer.entry(b"a").unwrap();
        let outside = scratch
            .path("outside")
            .into_os_string()
            .into_encoded_bytes();
        let made = match step {
            0 => restorer.symlink(&outside),
            _ => restorer.directory(),
        };
        assert_eq!(made.is_ok(), step == 0);
    }
    drop(restorer);
    assert_eq!(scratch.names(), ["outside"]);
    assert_eq!(Tree::look(&scratch.path("outside")), dir([]));
}

#[test]
fn a_restorer_that_is_dropped_or_ended_too_early_leaves_nothing() {
    let scratch = Scratch::new();
    let begun = || {
        let mut restorer = Restorer::new(scratch.place("d"));
        restorer.directory().unwrap();
        restorer.entry(b"f").unwrap();
        let head = FileHead {
            executable: false,
            size: 1,
        };
        restorer.file(head).unwrap();
        assert_eq!(scratch.names(), ["d"]);
        restorer
    };
    drop(begun());
    assert_eq!(scratch.names(), [""; 0]);
    let error = begun().finish().unwrap_err().to_string();
    assert!(error.contains("not complete"), "{error}");
    assert_eq!(scratch.names(), [""; 0]);
}

/// What the directory above hands down is no part of the object.
#[test]
fn a_group_that_is_handed_down_leaves_no_bit() {
    let scratch = Scratch::new();
    let above = scratch.path("");
    fs::set_permissions(&above, fs::Permissions::from_mode(0o2755)).unwrap();
    scratch.restore("d", &golden().archive()).unwrap();
    assert_eq!(
        fs::metadata(scratch.path("d")).unwrap().mode() & 0o7777,
        0o555
    );
}
