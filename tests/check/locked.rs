// SPDX-License-Identifier: MIT OR Apache-2.0
//! Databases that somebody keeps to himself, and state files that are none: told, and not waited for.

use super::world::{World, can_mount};
use rusqlite::Connection;
use std::process::Output;

/// Ends what would hang.
fn within(world: &World, script: &str) -> Output {
    let mut shell = world.shell("exec timeout 60 bash -ec \"$SCRIPT\"");
    shell.env("SCRIPT", script).output().unwrap()
}

/// A holder in exclusive mode keeps no index of the log in shared memory: only its lock tells.
#[test]
fn a_lock_is_seen_although_there_is_no_log() {
    for prepare in ["rm -f DIR/db.sqlite-*", "true"] {
        for (dir, id) in [("state/db", "upper"), ("l/nix/var/nix/db", "lower")] {
            let world = World::new("l");
            world.must(&prepare.replace("DIR", dir));
            let holder = Connection::open(world.path(dir).join("db.sqlite")).unwrap();
            holder
                .execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE")
                .unwrap();
            let checked = world.check();
            assert_eq!(checked.code, Some(1), "{prepare}: {id}");
            let faults = checked.report["faults"].as_array().unwrap();
            let fault = faults.iter().find(|one| one["id"] == "database-unusable");
            let fault = fault.unwrap_or_else(|| panic!("{prepare}: {id}: {faults:#?}"));
            assert!(fault["what"].as_str().unwrap().contains("locked"));
            drop(holder);
            assert_eq!(world.check().ids(), ["not-mounted"], "{prepare}: {id}");
        }
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let files = ["db.sqlite", "schema", "db.sqlite-wal", "db.sqlite-shm"];
    for dir in ["state/db", "l/nix/var/nix/db"] {
        for file in files {
            let world = World::new("l");
            world.must(&format!(
                "echo log >{dir}/db.sqlite-wal; rm -f {dir}/{file}; mkfifo {dir}/{file}"
            ));
            let output = within(&world, "overstore check \"$URL\" || echo code $?");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("code 1"), "{dir}/{file}: {text}");
            assert!(
                text.contains("database-unusable") && text.contains("not a regular file"),
                "{dir}/{file}: {text}"
            );
            assert!(!text.contains("chmod"), "{dir}/{file}: {text}");
        }
    }
}

#[test]
fn mounting_names_what_is_no_regular_file() {
    if !can_mount() {
        return;
    }
    for file in ["db.sqlite", "schema"] {
        let world = World::new("l");
        world.must(&format!("rm -f state/db/{file}; mkfifo state/db/{file}"));
        let output = within(&world, "overstore mount \"$URL\"");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{file}: {text}");
        assert!(text.contains("not a regular file"), "{file}: {text}");
    }
}

/// A mode of a symlink is none, and a command for it would change another file.
#[test]
fn symlinks_have_no_modes() {
    let world = World::new("l");
    world.must("rm state/db/db.sqlite; ln -s db.sqlite state/db/db.sqlite");
    let checked = world.check();
    assert!(
        !checked.ids().contains(&"wrong-modes"),
        "{:?}",
        checked.ids()
    );
    let what = checked.report["faults"].to_string();
    assert!(what.contains("levels of symbolic links"), "{what}");
    // One that leads somewhere is followed, by the command too.
    let world = World::new("l");
    world
        .must("mv state/db/db.sqlite other; chmod 666 other; ln -s ../../other state/db/db.sqlite");
    let checked = world.check();
    assert!(
        checked.ids().contains(&"wrong-modes"),
        "{:?}",
        checked.ids()
    );
    let other = world.path("other").display().to_string();
    let mends = checked.mends();
    assert!(
        mends
            .iter()
            .any(|mend| mend.ends_with(&format!(" {other}"))),
        "{mends:?}"
    );
}
