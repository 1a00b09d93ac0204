// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lower stores and a user who may not do everything.

use crate::{check, layout};
use overstore::metadata::prepare_state;
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use tempfile::TempDir;

const NOBODY: u32 = 65534;
const OBJECT: &str = "/nix/store/11111111111111111111111111111111-x";

/// Asks for the path info of the object, as a plain user.
fn ask(place: &TempDir) -> Output {
    let root = place.path().display();
    let url =
        format!("local-overlay://?root={root}/up&upper-layer={root}/upper&lower-store={root}/low");
    let mut command = Command::new(env!("CARGO_BIN_EXE_overstore"));
    command.args(["path-info", "--store", &url, OBJECT]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

/// A state that is forbidden is an error, never a store in which nothing is valid.
#[test]
fn a_forbidden_state_is_no_empty_store() {
    let everybody = Permissions::from_mode(0o755);
    let place = tempfile::Builder::new()
        .permissions(everybody.clone())
        .tempdir()
        .unwrap();
    let mut made = layout("/nowhere");
    let state = place.path().join("low/nix/var/nix");
    made.state = Some(state.clone());
    prepare_state(&made).unwrap();
    let db = state.join("db");
    let writer = Connection::open(db.join("db.sqlite")).unwrap();
    let hash = "0".repeat(64);
    let row = format!(
        "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('{OBJECT}', 'sha256:{hash}', 7)"
    );
    writer.execute_batch(&row).unwrap();
    drop(writer);
    let allowed = ask(&place);
    assert!(allowed.status.success(), "{}", check::text(&allowed.stderr));
    fs::set_permissions(&db, Permissions::from_mode(0o000)).unwrap();
    let forbidden = ask(&place);
    fs::set_permissions(&db, everybody).unwrap();
    let said = check::text(&forbidden.stderr);
    assert!(!forbidden.status.success() && forbidden.stdout.is_empty());
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("run as its owner"), "{said}");
}
