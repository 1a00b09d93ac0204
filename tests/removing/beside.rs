// SPDX-License-Identifier: MIT OR Apache-2.0
//! Optimising beside collectors, and ended in the middle.

use super::*;
use crate::common::check::within;
use crate::common::for_each_mode;
use crate::world::By;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

const FILES: usize = 300;
const ROUNDS: usize = 8;

fn content(number: usize) -> Vec<u8> {
    format!("content {number}\n").repeat(50).into_bytes()
}

/// Has `.links` and the object each have the files by themselves, so that a collector removes the link.
/// Nothing may be mounted meanwhile: a view may keep what it knows of files.
fn apart(world: &World, name: &str) {
    let object = world.path("up").join(name);
    crate::world::open(&object);
    for entry in fs::read_dir(&object).must() {
        let file = entry.must().path();
        let copy = object.join("copy");
        fs::copy(&file, &copy).must();
        fs::rename(&copy, &file).must();
        crate::world::set_mode(&file, 0o444);
    }
    let script = "find . -exec touch -h -d @1 {} + && find . -type d -exec chmod 0555 {} +";
    let done = Command::new("sh")
        .args(["-c", script])
        .current_dir(&object)
        .status();
    assert!(done.must().success());
}

for_each_mode!(
    a_link_that_a_collector_removes_is_made_again,
    [root],
    |fx| {
        let mut world = World::new(fx, By::Fuse);
        world.fill();
        for number in 0..FILES {
            write(&world, &format!("many/{number}"), &content(number));
        }
        let name = add(&world, "many");
        rooted(&world, &name);
        for round in 0..ROUNDS {
            // Those of the last round have no other name any more.
            ends(&world, 0, &["optimise"]);
            world.unmount();
            apart(&world, &name);
            world.mount();
            let link = fs::read_dir(world.path("up/.links")).must().next();
            assert_eq!(
                link.expect("there is one").must().metadata().must().nlink(),
                1
            );
            let start = |words: &[&str]| {
                command(&world, "", words)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .must()
            };
            let (optimise, gc) = (start(&["optimise"]), start(&["gc"]));
            for child in [optimise, gc] {
                let output = child.wait_with_output().must();
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "round {round}: {said}");
            }
        }
        world.verify(&["--check-contents"]).is(&[], &[], 0);
        world.unmount();
    }
);

for_each_mode!(an_end_in_the_middle_loses_nothing, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    for number in 0..FILES {
        write(&world, &format!("one/sub/{number}"), &content(number));
        write(&world, &format!("two/sub/{number}"), &content(number));
    }
    let names = [add(&world, "one"), add(&world, "two")];
    let (mut killed, mut ended) = (0, 0);
    for round in 0..12_u64 {
        world.unmount();
        let copy = world.path("up").join(&o.dup);
        if !is_there(&copy) {
            crate::world::copy(&world.lower(&o.dup), &copy);
        }
        for name in &names {
            apart(&world, &format!("{name}/sub"));
        }
        world.mount();
        let mut child = command(&world, "", &["optimise"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .must();
        let limit = Duration::from_millis(5 + round * 12);
        if within(limit, || child.try_wait().must().is_some()) {
            ended += 1;
        } else {
            child.kill().must();
            killed += 1;
        }
        child.wait().must();
        let told = world.verify(&["--check-contents"]);
        told.is(&[], &[], 0);
        for number in [0, FILES / 2, FILES - 1] {
            for name in &names {
                let file = world.merged(name).join(format!("sub/{number}"));
                assert_eq!(fs::read(file).must(), content(number));
            }
        }
    }
    assert!(killed > 0, "it was never killed, and ended {ended} times");
    ends(&world, 0, &["optimise"]);
    ends(&world, 0, &["gc", "--max-freed", "1"]);
    println!("killed {killed} times, ended {ended} times");
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    world.unmount();
});
