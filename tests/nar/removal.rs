// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees are removed whole, and what is told to be freed was freed.

use crate::skip::skip;
use crate::tree::{Scratch, Tree, dir, file, golden};
use overstore::nar::{Freed, Links, Place, canonicalise, remove_tree};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[test]
fn links_are_removed_and_not_followed() {
    let scratch = Scratch::new();
    dir([("kept", file("kept"))]).make(&scratch.path("outside"));
    dir([("l", Tree::Link(b"../outside".to_vec()))]).make(&scratch.path("d"));
    remove_tree(&scratch.place("d")).unwrap();
    Tree::Link(b"outside".to_vec()).make(&scratch.path("l"));
    assert_eq!(remove_tree(&scratch.place("l")).unwrap().bytes, 7);
    assert_eq!(scratch.names(), ["outside"]);
    assert_eq!(
        Tree::look(&scratch.path("outside")),
        dir([("kept", file("kept"))])
    );
}

#[test]
fn bytes_are_counted_when_their_last_link_goes() {
    let scratch = Scratch::new();
    let tree = dir([("alone", file("12345")), ("l", Tree::Link(b"123".to_vec()))]);
    tree.make(&scratch.path("d"));
    for (name, links) in [("two", 1), ("three", 2)] {
        file("1234567").make(&scratch.path(&format!("d/{name}")));
        for n in 0..links {
            let link = scratch.path(&format!("{name}-{n}"));
            fs::hard_link(scratch.path(&format!("d/{name}")), link).unwrap();
        }
    }
    file("1234567890").make(&scratch.path("d/inside-a"));
    fs::hard_link(scratch.path("d/inside-a"), scratch.path("d/inside-b")).unwrap();
    let freed = remove_tree(&scratch.place("d")).unwrap();
    // Of the two names inside, the first leaves one link, and the second none.
    let expected = Freed {
        bytes: 5 + 3 + 10,
        linked_once: 7,
    };
    assert_eq!(freed, expected);
    assert_eq!(
        remove_tree(&scratch.place("two-0")).unwrap(),
        Freed {
            bytes: 7,
            linked_once: 0
        }
    );
    assert_eq!(
        remove_tree(&scratch.place("absent")).unwrap(),
        Freed::default()
    );
}

#[test]
fn only_single_names_are_places() {
    let dir = fs::File::open("/").unwrap();
    for name in ["", ".", "..", "a/b", "/etc", "a\0"] {
        assert!(
            Place::new(dir.as_fd(), name.as_bytes(), Path::new("/")).is_err(),
            "{name:?}"
        );
    }
}

/// What was set to be no longer written is removed by its owner, who is not root.
#[test]
fn a_plain_user_removes_what_may_not_be_written() {
    const CHILD: &str = "OVERSTORE_TEST_PLAIN_USER";
    if rustix::process::geteuid().is_root() && std::env::var_os(CHILD).is_none() {
        let test = "removal::a_plain_user_removes_what_may_not_be_written";
        let mut child = Command::new("/proc/self/exe");
        child
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .uid(65_534)
            .gid(65_534);
        return match child.current_dir("/").output() {
            Ok(output) => {
                let text = output.stderr.escape_ascii();
                let passed = output.stdout.windows(9).any(|text| text == b"1 passed;");
                assert!(output.status.success() && passed, "{text}");
            }
            Err(error) => skip(&format!("no plain user can run this test: {error}")),
        };
    }
    let scratch = Scratch::new();
    dir([("sub", golden()), ("z", dir([("y", golden())]))]).make(&scratch.path("d"));
    canonicalise(&scratch.place("d"), Links::Refuse).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0);
    fs::set_permissions(scratch.path("d/z/y"), closed).unwrap();
    remove_tree(&scratch.place("d")).unwrap();
    assert!(scratch.names().is_empty());
}
