// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view that has no upper directory: it shows both layers, and nothing can be written through it.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use common::{Place, skip, text};
use overstore_mount::{Markers, ReadOnly, Way};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

/// The directory for a child of this test binary, which mounts in a namespace of its own.
const INSIDE: &str = "OVERSTORE_TEST_INSIDE_HELPER";

/// Runs `body` in a user and mount namespace of its own.
fn in_namespace(test: &str, body: fn(&Path)) {
    if let Some(root) = std::env::var_os(INSIDE) {
        return body(Path::new(&root));
    }
    let place = Place::new();
    let start = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "--propagation", "private", "--"]);
        command.args(words).env(INSIDE, place.path(""));
        command.output().unwrap()
    };
    if !start(&["true"]).status.success() {
        return skip("user namespaces are not allowed here");
    }
    let own = std::env::current_exe().unwrap();
    let output = start(&[own.to_str().unwrap(), "--exact", test, "--nocapture"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}

fn request_in(place: &Path) -> ReadOnly {
    let [lower, upper, merged] = ["l", "u", "m"].map(|part| place.join(part));
    for directory in [&lower, &upper, &merged] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(lower.join("name"), "lower").unwrap();
    fs::write(lower.join("low"), "low").unwrap();
    fs::write(upper.join("name"), "upper").unwrap();
    ReadOnly {
        lower,
        upper,
        merged,
        markers: Markers::here(),
    }
}

#[test]
fn shows_both_layers_of_any_name_and_refuses_changes() {
    in_namespace(
        "shows_both_layers_of_any_name_and_refuses_changes",
        |root| {
            let long = "n".repeat(200);
            let deep = format!("{long}/{long}");
            let names: [&[u8]; 7] = [
                b"plain",
                b"a,b",
                b"a:b",
                b"a\\b",
                b"a b",
                b"\xff",
                deep.as_bytes(),
            ];
            let ways = [Way::Descriptors, Way::Classic];
            for (name, way) in names.iter().flat_map(|name| ways.map(|way| (name, way))) {
                let name = OsString::from_vec(name.to_vec());
                let place = root.join(format!("{way:?}")).join(&name);
                let request = request_in(&place);
                let mounted = request.mount_by(way);
                mounted.unwrap_or_else(|why| panic!("{way:?} {name:?}: {why}"));
                let read = |name: &str| fs::read_to_string(request.merged.join(name)).unwrap();
                assert_eq!((read("name"), read("low")), ("upper".into(), "low".into()));
                let why = fs::write(request.merged.join("new"), "new").unwrap_err();
                assert_eq!(why.kind(), ErrorKind::ReadOnlyFilesystem);
                // With an upper directory the kernel would have made a work directory.
                let made: Vec<_> = fs::read_dir(&place).unwrap().collect();
                assert_eq!(made.len(), 3, "{made:?}");
            }
        },
    );
}

#[test]
fn refuses_what_overlaps_and_what_is_missing() {
    in_namespace("refuses_what_overlaps_and_what_is_missing", |root| {
        let request = request_in(root);
        let inside = request.lower.join("inside");
        fs::create_dir(&inside).unwrap();
        let why = |request: ReadOnly| request.mount().unwrap_err().to_string();
        let upper = why(ReadOnly {
            upper: inside.clone(),
            ..request.clone()
        });
        assert!(upper.contains("lies inside"), "{upper}");
        let merged = why(ReadOnly {
            merged: inside,
            ..request.clone()
        });
        assert!(merged.contains("lies inside"), "{merged}");
        let missing = why(ReadOnly {
            upper: root.join("none"),
            ..request
        });
        assert!(missing.contains("create it: mkdir -p"), "{missing}");
    });
}
