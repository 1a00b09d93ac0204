// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorder keeps no view from ending, and no end leaves a store that does not verify.

use crate::common::check::within;
use crate::common::for_each_mode;
use crate::common::mode::{Mode, program};
use crate::world::{PATIENCE, Sure, World, name, recorder_ended, recorders};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;

/// How many objects are in the making when something ends.
const MANY: usize = 200;

/// Every row has its files, and every reference its row.
fn sound(world: &World) -> usize {
    let database = Connection::open(world.state.join("db/db.sqlite")).sure();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .sure();
    assert_eq!(check, "ok");
    let broken = database
        .prepare("PRAGMA foreign_key_check")
        .sure()
        .exists([]);
    assert!(!broken.sure(), "references without a row");
    let mut rows = database.prepare("SELECT path FROM ValidPaths").sure();
    let paths = rows.query_map([], |row| row.get::<_, String>(0)).sure();
    let mut count = 0;
    for path in paths {
        let name = path.sure()["/nix/store/".len()..].to_owned();
        let row = world.row(&name).expect("it was listed");
        let references: Vec<&str> = row.references.iter().map(String::as_str).collect();
        assert_eq!(row, world.expected(&name, &references), "{name}");
        count += 1;
    }
    count
}

fn make_many(world: &World) {
    for n in 0..MANY {
        world.file(&name(n, "many"), &name(n / 2, "many"));
    }
}

/// Waits until the recorder is at work: it has a lock, or something is valid.
fn at_work(world: &World) {
    let busy = || {
        let names = fs::read_dir(&world.upper).sure();
        let mut names = names.map(|entry| entry.sure().file_name());
        names.any(|name| name.as_encoded_bytes().ends_with(b".lock"))
            || (0..MANY).any(|n| world.row(&name(n, "many")).is_some())
    };
    assert!(within(PATIENCE, busy));
}

for_each_mode!(
    /// Killed in the middle of a batch, driver or recorder, nothing is half registered, and the next
    /// mount records the rest.
    a_kill_in_the_middle_leaves_a_sound_store,
    |fx| {
        let world = World::new(fx);
        for round in 0..2 {
            let mut view = world.mount();
            make_many(&world);
            at_work(&world);
            let victim = match round {
                0 => view.driver_pid(),
                _ => recorders()[0],
            };
            let victim = Pid::from_raw(victim.cast_signed()).expect("a process");
            kill_process(victim, Signal::KILL).sure();
            if round == 0 {
                view.crashed();
            } else {
                // The view goes on without it, and says so.
                recorder_ended();
                assert!(world.merged.join(name(0, "many")).try_exists().sure());
                let told = status(&world);
                assert_eq!(told["recording"], false, "{told}");
                assert_eq!(told["options"]["record"], true);
            }
            drop(view);
            recorder_ended();
            sound(&world);
            for n in 0..MANY {
                // The next round begins anew.
                if round == 0 {
                    let database = Connection::open(world.state.join("db/db.sqlite")).sure();
                    database.execute("PRAGMA foreign_keys = 1", []).sure();
                    database.execute("DELETE FROM Refs", []).sure();
                    database.execute("DELETE FROM ValidPaths", []).sure();
                    fs::remove_file(world.upper.join(name(n, "many"))).sure();
                    let lock = world.upper.join(format!("{}.lock", name(n, "many")));
                    assert!(!lock.try_exists().sure() || fs::remove_file(lock).is_ok());
                }
            }
        }
        let view = world.mount();
        for n in 0..MANY {
            world.recorded(&view, &name(n, "many"));
        }
        assert_eq!(status(&world)["recording"], true);
        drop(view);
        assert_eq!(sound(&world), MANY);
    }
);

fn status(world: &World) -> serde_json::Value {
    let mut command = Command::new(program());
    let output = command
        .args(["status", "--json"])
        .arg(&world.merged)
        .output();
    serde_json::from_slice(&output.sure().stdout).sure()
}

for_each_mode!(
    /// An unmount at any moment succeeds: at once, or the next moment. The lock of the database is
    /// held by somebody else all the time, so that the recorder always has something to wait for.
    an_unmount_never_waits_for_the_recorder,
    |fx| {
        let world = World::new(fx);
        drop(world.mount());
        let database = Connection::open(world.state.join("db/db.sqlite")).sure();
        for round in 0..5 {
            let mut view = world.mount();
            database.execute("BEGIN IMMEDIATE", []).sure();
            world.file(&name(round, "object"), "o");
            // Wherever it is by then: it has seen the object, or waits to write.
            let seen = || round % 2 == 0 || recorders().iter().any(|one| has_database(&world, *one));
            assert!(within(PATIENCE, seen));
            let ended = within(PATIENCE, || {
                let mut command = match fx.mode() {
                    Mode::user => Command::new("fusermount3"),
                    Mode::root | Mode::userns => Command::new("umount"),
                };
                if fx.mode() == Mode::user {
                    command.arg("-u");
                }
                command.arg(&world.merged).output().sure().status.success()
            });
            assert!(ended, "EBUSY:\n{}", view.said());
            view.crashed();
            recorder_ended();
            database.execute("ROLLBACK", []).sure();
        }
    }
);

/// Whether a process has the database open.
fn has_database(world: &World, process: u32) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.any(|target| target.starts_with(world.state.join("db")))
}

for_each_mode!(
    /// Told to end, the driver ends, also while the recorder waits for the database.
    a_signal_ends_both,
    |fx| {
        let world = World::new(fx);
        drop(world.mount());
        let database = Connection::open(world.state.join("db/db.sqlite")).sure();
        database.execute("BEGIN IMMEDIATE", []).sure();
        let mut view = world.mount();
        world.file(&name(1, "object"), "o");
        let waits = || recorders().iter().any(|one| has_database(&world, *one));
        assert!(within(PATIENCE, waits));
        let driver = Pid::from_raw(view.driver_pid().cast_signed()).expect("a process");
        kill_process(driver, Signal::TERM).sure();
        view.crashed();
        recorder_ended();
        database.execute("ROLLBACK", []).sure();
        assert_eq!(world.row(&name(1, "object")), None);
        let view = world.mount();
        world.recorded(&view, &name(1, "object"));
    }
);
