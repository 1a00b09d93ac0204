// SPDX-License-Identifier: MIT OR Apache-2.0
//! What repair does, what an end before its time leaves, and that what was good stays.

use crate::common::check::{Must, reads, text};
use crate::common::for_each_mode;
use crate::common::manifest;
use crate::world::{By, Objects, Told, World, open, remove};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Damages one object of each kind.
fn damage(world: &World, o: &Objects) {
    for (object, content) in [
        (world.upper(&o.up), "up"),
        (world.upper(&o.dup), "dup"),
        (world.lower(&o.low), "low"),
    ] {
        // Mended, the upper has no copy of what the lower has.
        if fs::symlink_metadata(&object).is_ok() {
            open(&object);
            fs::write(object.join("file"), format!("content of another {content}")).must();
        }
    }
    if fs::symlink_metadata(world.upper(&o.held)).is_ok() {
        remove(&world.upper(&o.held));
    }
}

fn mended(world: &mut World, o: &Objects) {
    damage(world, o);
    world.unmount();
    world.mount();
    let faults = [
        (o.up.as_str(), "modified"),
        (&o.dup, "modified"),
        (&o.low, "modified"),
        (&o.held, "disappeared"),
    ];
    world.verify(&["--check-contents"]).is(&faults, &[], 1);
    let good = world.path("good");
    let lower = manifest::of(&world.path("low"));
    // The lower has one of them.
    let without = [faults[0], faults[2], faults[3]];
    world
        .verify(&["--check-contents", "--repair"])
        .is(&without, &[faults[1]], 1);
    assert!(fs::symlink_metadata(world.path("up").join(&o.dup)).is_err());
    let from = [
        "--check-contents",
        "--repair",
        "--from",
        good.to_str().expect("ASCII"),
    ];
    world.verify(&from).is(&[], &without, 0);
    assert_eq!(
        manifest::of(&world.path("low")),
        lower,
        "the lower was written"
    );
    for (name, word) in [
        (&o.up, "up"),
        (&o.dup, "dup"),
        (&o.low, "low"),
        (&o.held, "held"),
    ] {
        reads(
            &world.merged(name).join("file"),
            &format!("content of {word}"),
        );
    }
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    world.unmount();
    world.mount();
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    let told = world.verify(&["--check-contents", "--lower"]);
    told.is(&[(&o.low, "modified")], &[], 0);
    assert_eq!(told.json["faults"][0]["covered"], true);
}

fn uncovered(world: &mut World, o: &Objects) {
    let junk = world.path("up").join(&o.bare);
    fs::write(&junk, "junk").must();
    world.unmount();
    world.mount();
    world
        .verify(&["--check-contents"])
        .is(&[(&o.bare, "shadow")], &[], 1);
    world
        .verify(&["--repair"])
        .is(&[], &[(&o.bare, "shadow")], 0);
    assert!(fs::symlink_metadata(&junk).is_err());
    reads(&world.merged(&o.bare).join("file"), "content of bare");
}

for_each_mode!(all_is_mended_on_fuse, |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    mended(&mut world, &o);
    uncovered(&mut world, &o);
    world.unmount();
});

for_each_mode!(all_is_mended_on_the_kernel, [root, userns], |fx| {
    let mut world = World::new(fx, By::Kernel);
    let o = world.fill();
    mended(&mut world, &o);
    uncovered(&mut world, &o);
    world.unmount();
});

for_each_mode!(a_bad_copy_is_not_taken, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let object = world.path("good/nix/store").join(&o.up);
    for object in [world.upper(&o.up), object] {
        open(&object);
        fs::write(object.join("file"), "bad").must();
    }
    let before = manifest::of(&world.upper(&o.up));
    let good = world.path("good");
    let from = [
        "--check-contents",
        "--repair",
        "--from",
        good.to_str().expect("ASCII"),
    ];
    world.verify(&from).is(&[(&o.up, "modified")], &[], 1);
    assert_eq!(manifest::of(&world.upper(&o.up)), before);
    world.unmount();
});

/// A verification that repairs, with large objects, once it has begun to write.
fn repairing(world: &World, o: &Objects) -> Child {
    let good = world.path("good");
    let mut command = world.command(&["--check-contents", "--repair", "--from"]);
    let mut child = command
        .arg(&good)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .must();
    let lock = world.path("up").join(format!("{}.lock", o.low));
    let began = crate::common::check::within(Duration::from_secs(20), || {
        // On a fast machine it may be over before it is seen.
        child.try_wait().must().is_some()
            || fs::symlink_metadata(&lock).is_ok()
            || fs::read_dir(world.path("up")).must().any(|entry| {
                let name = entry.must().file_name();
                name.into_encoded_bytes()
                    .windows(8)
                    .any(|part| part == b"-repair-")
            })
    });
    assert!(began, "the repair does not begin");
    child
}

fn kill(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process has a number");
    // It may have ended before.
    let _ended = kill_process(pid, signal);
}

for_each_mode!(interrupted_nothing_is_lost, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let good = manifest::of(&world.path("good"));
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        damage(&world, &o);
        world.unmount();
        world.mount();
        let child = repairing(&world, &o);
        kill(&child, signal);
        let output = child.wait_with_output().must();
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0 | 3) => drop(Told::of(&output)),
            None if signal == Signal::KILL => {}
            other => panic!("{other:?}: {said}"),
        }
        // What is not mended is told; no row is gone.
        let told = world.verify(&["--check-contents"]);
        assert!(matches!(told.code, Some(0 | 1)), "{}", told.said);
        assert_eq!(
            told.json["checked"].as_u64().must_be_at_least(4),
            Ok(()),
            "{}",
            told.said
        );
        assert_eq!(
            told.json["repaired"].as_array().map(Vec::len),
            Some(0),
            "{}",
            told.said
        );
    }
    assert_eq!(manifest::of(&world.path("good")), good);
    let from = world.path("good");
    let told = world.verify(&[
        "--check-contents",
        "--repair",
        "--from",
        from.to_str().expect("ASCII"),
    ]);
    assert_eq!(told.code, Some(0), "{}", told.said);
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    for (name, word) in [
        (&o.up, "up"),
        (&o.low, "low"),
        (&o.held, "held"),
        (&o.user, "user"),
    ] {
        reads(
            &world.merged(name).join("file"),
            &format!("content of {word}"),
        );
    }
    world.unmount();
});

trait AtLeast {
    fn must_be_at_least(self, least: u64) -> Result<(), Self>
    where
        Self: Sized;
}

impl AtLeast for Option<u64> {
    fn must_be_at_least(self, least: u64) -> Result<(), Self> {
        match self {
            Some(count) if count >= least => Ok(()),
            other => Err(other),
        }
    }
}
