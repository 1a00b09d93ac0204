// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told of each kind of damage, and that nothing else is.

use crate::common::check::Must;
use crate::common::for_each_mode;
use crate::common::mode::Mode;
use crate::world::{By, World, open, remove, set_mode};
use std::fs;
use std::process::Command;

/// Every damage, one after the other, on one store.
fn table(world: &World, o: &crate::world::Objects) {
    world
        .verify(&["--check-contents", "--lower"])
        .is(&[], &[], 0);
    let file = world.upper(&o.up).join("file");
    let saved = world.path("saved");
    crate::world::copy(&world.upper(&o.up), &saved);
    open(&world.upper(&o.up));

    fs::write(&file, "content of uP").must();
    world.verify(&[]).is(&[], &[], 0);
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "modified")], &[], 1);
    let path = format!("/nix/store/{}", o.up);
    world
        .verify(&["--check-contents", &path])
        .is(&[(&o.up, "modified")], &[], 1);
    let other = format!("/nix/store/{}", o.held);
    world.verify(&["--check-contents", &other]).is(&[], &[], 0);
    fs::write(&file, "content").must();
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "modified")], &[], 1);
    fs::write(&file, "content of up").must();
    world.verify(&["--check-contents"]).is(&[], &[], 0);

    // A mode is no content, but for the owner's right to execute.
    set_mode(&file, 0o640);
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    set_mode(&world.upper(&o.up).join("run"), 0o444);
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "modified")], &[], 1);
    set_mode(&world.upper(&o.up).join("run"), 0o555);
    let fifo = world.upper(&o.up).join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().must().success());
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "unfit")], &[], 1);
    fs::remove_file(&fifo).must();
    world.verify(&["--check-contents"]).is(&[], &[], 0);
}

/// Rows that say something else.
fn rows(world: &World, o: &crate::world::Objects) {
    let row = |set: &str, name: &str| {
        world.sql(&format!(
            "UPDATE ValidPaths SET {set} WHERE path = '/nix/store/{name}'"
        ));
    };
    row("narSize = narSize + 8", &o.up);
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "size")], &[], 1);
    world
        .verify(&["--check-contents", "--repair"])
        .is(&[], &[(&o.up, "size")], 0);
    row("narSize = NULL", &o.up);
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    row("hash = 'sha256:nonsense'", &o.up);
    world.verify(&[]).is(&[(&o.up, "row")], &[], 1);
    row(&format!("hash = 'sha256:{}'", "0".repeat(64)), &o.up);
    world
        .verify(&["--check-contents"])
        .is(&[(&o.up, "modified")], &[], 1);
    world.sql(&format!(
        "UPDATE ValidPaths SET hash = (SELECT hash FROM ValidPaths WHERE path = '/nix/store/{}') \
         WHERE path = '/nix/store/{}'",
        o.held, o.held
    ));
    world.sql(&format!(
        "PRAGMA foreign_keys = 0; INSERT INTO Refs SELECT id, 99999 FROM ValidPaths \
         WHERE path = '/nix/store/{}'",
        o.low
    ));
    let told = world.verify(&[]);
    told.is(&[(&o.low, "dangling")], &[], 1);
    world
        .verify(&["--repair"])
        .is(&[], &[(&o.low, "dangling")], 0);
}

/// What disappeared.
fn missing(world: &World, o: &crate::world::Objects) {
    remove(&world.upper(&o.held));
    world.verify(&[]).is(&[(&o.held, "disappeared")], &[], 1);
    remove(&world.upper(&o.user));
    let both = [(o.held.as_str(), "disappeared"), (&o.user, "disappeared")];
    world.verify(&["--dry-run"]).is(&both, &[], 1);
    world.verify(&["--dry-run"]).is(&both, &[], 1);
    world.verify(&[]).is(&[], &both, 0);
    world.verify(&[]).is(&[], &[], 0);
}

for_each_mode!(damage_is_told_on_fuse, |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    table(&world, &o);
    rows(&world, &o);
    open(&world.path("up"));
    fs::remove_dir_all(world.upper(&o.up)).must();
    world.verify(&[]).is(&[], &[(&o.up, "disappeared")], 0);
    missing(&world, &o);
    world.unmount();
});

for_each_mode!(damage_is_told_on_the_kernel, [root, userns], |fx| {
    let mut world = World::new(fx, By::Kernel);
    let o = world.fill();
    table(&world, &o);
    // What was removed underneath shows only anew.
    remove(&world.upper(&o.held));
    world.unmount();
    world.mount();
    world.verify(&[]).is(&[(&o.held, "disappeared")], &[], 1);
    world.unmount();
});

for_each_mode!(damage_is_told_in_a_directory, [user], |fx| {
    let mut world = World::new(fx, By::Directory);
    let o = world.fill();
    table(&world, &o);
    missing(&world, &o);
});

for_each_mode!(the_lower_is_told_of_and_never_taken_for_absent, |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    open(&world.lower(&o.bare));
    fs::write(world.lower(&o.bare).join("file"), "bad").must();
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    world
        .verify(&["--check-contents", "--lower"])
        .is(&[(&o.bare, "modified")], &[], 1);
    // In the upper, without a row, before it.
    fs::create_dir(world.path("up").join(&o.bare)).must();
    world.run(&["sync", world.path("m/nix/store").to_str().expect("ASCII")]);
    world.verify(&[]).is(&[(&o.bare, "shadow")], &[], 1);
    fs::remove_dir(world.path("up").join(&o.bare)).must();
    // A lower that has lost everything is one that is not mounted.
    world.unmount();
    fs::rename(world.path("low/nix/store"), world.path("away")).must();
    fs::create_dir(world.path("low/nix/store")).must();
    world.mount();
    world.verify(&[]).is(&[(&o.low, "hidden")], &[], 1);
    world.unmount();
    fs::remove_dir(world.path("low/nix/store")).must();
    fs::rename(world.path("away"), world.path("low/nix/store")).must();
    world.mount();
    world.verify(&[]).is(&[], &[], 0);
    world.unmount();
});

for_each_mode!(what_cannot_be_read_is_not_checked, [user], |fx| {
    assert_eq!(fx.mode(), Mode::user);
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    open(&world.upper(&o.up));
    set_mode(&world.upper(&o.up).join("file"), 0);
    let told = world.verify(&["--check-contents", "--repair"]);
    told.is(&[], &[], 3);
    let path = told.json["notChecked"][0]["path"].as_str();
    assert_eq!(
        path,
        Some(format!("/nix/store/{}", o.up).as_str()),
        "{}",
        told.said
    );
    world.unmount();
});
