// SPDX-License-Identifier: MIT OR Apache-2.0
//! Databases that are missing, locked, corrupt, newer or in use; and rows without files or closure.

use super::world::{Checked, LIB, NEW, TOOL, World, can_mount};
use rusqlite::Connection;

/// Everything about the state directories but access times.
fn states(world: &World) -> String {
    world.must("find state l/nix/var -printf '%p %m %s %T@ %i\\n' | sort; sha256sum state/db/db.sqlite* l/nix/var/nix/db/db.sqlite*")
}

#[test]
fn nothing_is_created_or_changed() {
    let world = World::new("l");
    for prepare in [
        "true",
        "rm -f state/db/db.sqlite-* l/nix/var/nix/db/db.sqlite-*",
        "truncate -s 0 state/db/db.sqlite-wal",
        "rm -f state/db/db.sqlite-wal && touch state/db/db.sqlite-shm",
        "for state in state l/nix/var/nix; do sqlite3 $state/db/db.sqlite 'PRAGMA journal_mode = truncate' >&2; done",
    ] {
        world.must(prepare);
        let before = states(&world);
        let checked = world.check();
        assert_eq!(
            checked.ids(),
            ["not-mounted"],
            "{prepare}: {:#}",
            checked.report
        );
        assert_eq!(states(&world), before, "{prepare}");
    }
}

/// Rows that are in the log alone count, also while somebody writes.
#[test]
fn a_live_writer_is_seen_and_not_waited_for() {
    let world = World::new("l");
    let writer = Connection::open(world.path("state/db/db.sqlite")).unwrap();
    let insert = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('/nix/store/66666666666666666666666666666666-gone', 'x', 1)";
    writer.execute_batch(insert).unwrap();
    writer
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM Refs; DELETE FROM ValidPaths")
        .unwrap();
    let checked = world.check();
    assert_eq!(checked.ids(), ["row-without-files", "not-mounted"]);
}

#[test]
fn rows_without_files() {
    let world = World::new("l");
    world.must(&format!(
        "chmod -R u+w u/{NEW} l/nix/store/{TOOL}; rm -r u/{NEW} l/nix/store/{TOOL}"
    ));
    let checked = world.check();
    assert_eq!(
        checked.ids(),
        ["row-without-files", "row-without-files", "not-mounted"]
    );
    let verify = &checked.mends()[0];
    assert!(
        verify.starts_with("overstore verify --store ") && verify.ends_with(&world.quoted_url()),
        "{verify}"
    );
}

#[test]
fn rows_without_their_closure() {
    let at = |name: &str| format!("(SELECT id FROM ValidPaths WHERE path = '/nix/store/{name}')");
    let lib = at(LIB);
    let tool = at(TOOL);
    for (statement, count) in [
        (format!("DELETE FROM Refs WHERE referrer = {tool}"), 1),
        (
            format!(
                "DELETE FROM Refs WHERE reference = {lib}; DELETE FROM ValidPaths WHERE id = {lib}"
            ),
            1,
        ),
        // Past the foreign keys: both rows that refer to it.
        (format!("DELETE FROM ValidPaths WHERE id = {lib}"), 2),
    ] {
        let world = World::new("l");
        world.sql("state", &statement);
        let checked = world.check();
        let closures = checked.ids().iter().filter(|id| **id == "closure").count();
        assert_eq!(
            (checked.ids().len(), closures),
            (count + 1, count),
            "{statement}"
        );
        let mend = &checked.mends()[0];
        assert!(
            mend.contains("Refs") || mend.contains(" --repair /nix/store/"),
            "{mend}"
        );
    }
}

#[test]
fn a_missing_database_is_made_by_the_command() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    // What is valid in the lower, unregistered and in the upper would be a fault of its own.
    world.must("rm -r state/db; chmod -R u+w u/*; rm -r u/*");
    let checked = world.check();
    assert_eq!(checked.ids(), ["database-missing"]);
    assert!(checked.unseen().contains(&"row-without-files"));
    world.must(&checked.mends()[0]);
    world.check().assert_clean("after");
}

#[test]
fn databases_that_cannot_be_read_are_faults() {
    let junk = "rm -f state/db/db.sqlite-*; head -c 9000 /dev/urandom >state/db/db.sqlite";
    let table = [
        (junk, "database-corrupt", 4),
        ("echo short >state/db/db.sqlite", "database-corrupt", 4),
        ("rm state/db/db.sqlite", "database-corrupt", 4),
        ("echo junk >state/db/schema", "database-corrupt", 4),
        ("echo 11 >state/db/schema", "database-unusable", 1),
        ("rm l/nix/var/nix/db/db.sqlite", "database-corrupt", 4),
        (
            "rm state/db/db.sqlite-shm; echo log >state/db/db.sqlite-wal",
            "database-unusable",
            1,
        ),
    ];
    for (broken_by, id, code) in table {
        let world = World::new("l");
        world.must(broken_by);
        let checked = world.check();
        assert_eq!(checked.ids(), [id, "not-mounted"], "{broken_by}");
        assert_eq!(checked.code, Some(code), "{broken_by}");
        assert!(checked.unseen().contains(&"shadow"), "{broken_by}");
    }
}

#[test]
fn a_locked_database_is_not_waited_for_for_ever() {
    let world = World::new("l");
    world.must("sqlite3 state/db/db.sqlite 'PRAGMA journal_mode = truncate' >&2");
    let holder = Connection::open(world.path("state/db/db.sqlite")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let checked = world.check();
    assert_eq!(checked.ids(), ["database-unusable", "not-mounted"]);
}

/// Without a database of the lower, or a state directory at all, that is said.
#[test]
fn what_nobody_can_know_is_not_checked() {
    let world = World::new("l");
    world.must("mv l/nix/var none");
    let checked = world.check();
    assert_eq!(checked.unseen(), ["shadow", "closure"]);
    let daemon = world
        .url()
        .replace("lower-store=", "lower-store=unix:///none%3Froot%3D");
    let checked = world.check_words(&format!("'{daemon}'"));
    assert_eq!(checked.unseen(), ["shadow", "closure"]);
    let layers = "-o lowerdir=$PWD/l/nix/store,upperdir=$PWD/u $M";
    let checked = world.check_words(layers);
    assert!(
        checked.unseen().contains(&"row-without-files"),
        "{:?}",
        checked.unseen()
    );
}

const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// Why something was not checked.
fn whys(checked: &Checked) -> String {
    checked.report["not-checked"].to_string()
}

/// A daemon that is away, or that this user may not ask, is told with the way out.
#[test]
fn a_daemon_that_cannot_be_asked_is_told() {
    let world = World::new("l");
    world.must(
        "mkdir run && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"run/left\")'",
    );
    let root = world.path("l").display().to_string();
    for (socket, why) in [("none", "No such file"), ("left", "Connection refused")] {
        let place = world.path("run").join(socket).display().to_string();
        let lower = format!("lower-store=unix://{place}%3Froot%3D{root}");
        let url = world.url().replace(&format!("lower-store={root}"), &lower);
        let checked = world.check_words(&format!("'{url}'"));
        assert_eq!(
            checked.ids(),
            ["not-mounted"],
            "{:#}",
            checked.report["faults"]
        );
        assert_eq!(checked.unseen(), ["shadow", "closure"]);
        let told = whys(&checked);
        assert!(
            told.contains(why) && told.contains("is nix-daemon running?"),
            "{told}"
        );
        if socket == "left" && rustix::process::geteuid().is_root() {
            world.must("chmod 600 run/left");
            let script = format!("{PLAIN} overstore check --json '{url}'");
            let checked = Checked::of(&world.shell(&script).output().unwrap());
            let told = whys(&checked);
            assert!(
                told.contains("Permission denied") && told.contains("run as a user who may"),
                "{told}"
            );
        }
    }
}

/// A lower state directory that this user may not read is not taken for an empty one.
#[test]
fn a_lower_state_that_is_forbidden_is_told() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("chmod 700 l/nix/var/nix/db");
    let script = format!("{PLAIN} overstore check --json \"$URL\"");
    let checked = Checked::of(&world.shell(&script).output().unwrap());
    let told = whys(&checked);
    assert!(
        told.contains("Permission denied") && told.contains("run as its owner"),
        "{told}"
    );
    assert!(checked.unseen().contains(&"shadow"), "{told}");
}
