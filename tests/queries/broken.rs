// SPDX-License-Identifier: MIT OR Apache-2.0
//! Databases that cannot be read: an error with a way out, in time, and never "not valid".

use overstore::layout::{Layout, LowerStore, Settings};
use overstore::metadata::{Registration, Upper};
use overstore::store::{ObjectName, Outputs, PathInfo, Sha256};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NAME: &str = "00000000000000000000000000000005-y";

/// A store with one object.
fn store() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for name in ["l/nix/store", "u", "m/nix/store"] {
        std::fs::create_dir_all(home.path().join(name)).unwrap();
    }
    let layout = Layout {
        lower: home.path().join("l/nix/store"),
        lower_store: LowerStore::Directory,
        upper: home.path().join("u"),
        work: None,
        merged: home.path().join("m/nix/store"),
        store_dir: PathBuf::from("/nix/store"),
        state: Some(home.path().join("s")),
        check_mount: false,
        read_only: false,
        settings: Settings::default(),
    };
    let name = ObjectName::parse(NAME.as_bytes()).unwrap();
    let one = Registration {
        info: PathInfo::new(name, Sha256::of(b""), 160),
        outputs: Outputs::new(),
    };
    Upper::open(&layout)
        .unwrap()
        .write(|change| change.register(std::slice::from_ref(&one)))
        .unwrap();
    home
}

fn ask(home: &Path, words: &[&str]) -> Output {
    let url = format!(
        "local-overlay://?root={0}/m&lower-store={0}/l&upper-layer={0}/u&state={0}/s&check-mount=false",
        home.display()
    );
    Command::new("timeout")
        .args(["--signal=KILL", "60"])
        .arg(env!("CARGO_BIN_EXE_overstore"))
        .args(words)
        .args(["--store", &url, &format!("/nix/store/{NAME}")])
        .output()
        .unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let said = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty());
    assert!(said.contains(words) && said.contains("; "), "{said}");
}

#[test]
fn corrupt_rows_are_corrupt_data() {
    let home = store();
    let good = ask(home.path(), &["query", "--size"]);
    assert_eq!(good.stdout, b"160\n");
    let database = Connection::open(home.path().join("s/db/db.sqlite")).unwrap();
    database
        .execute_batch("UPDATE ValidPaths SET hash = 'sha256:zz'")
        .unwrap();
    for words in [&["query", "--hash"][..], &["path-info", "--json"]] {
        refused(&ask(home.path(), words), 4, "column hash");
    }
    database.execute_batch("DROP TABLE Refs").unwrap();
    refused(&ask(home.path(), &["query", "--size"]), 4, "Refs");
}

#[test]
fn a_locked_database_is_waited_for_a_while() {
    let home = store();
    let database = Connection::open(home.path().join("s/db/db.sqlite")).unwrap();
    database
        .execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; DELETE FROM Refs")
        .unwrap();
    refused(
        &ask(home.path(), &["query", "--size"]),
        3,
        "the database is locked",
    );
    drop(database);
    assert_eq!(ask(home.path(), &["query", "--size"]).stdout, b"160\n");
}

#[test]
fn what_is_not_there_is_told() {
    let home = store();
    let url = format!(
        "local-overlay://?root={0}/m&lower-store={0}/l&upper-layer={0}/u&state={0}/none&check-mount=false",
        home.path().display()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_overstore"))
        .args(["query", "--size", &format!("/nix/store/{NAME}")])
        .env("OVERSTORE_STORE", &url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!home.path().join("none").try_exists().unwrap());
    let wrong = Command::new(env!("CARGO_BIN_EXE_overstore"))
        .args(["query", "--size", "--hash", "x"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("see `overstore query --help`"), "{said}");
}
