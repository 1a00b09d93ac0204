// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repair when the driver is killed: at any point the next one shows the old object or the new
//! one, never something of both.

use super::repair::{OBJECTS, layers, status};
use crate::common::check::{Must, fails, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::manifest;
use crate::common::mount::{MountGuard, run};
use crate::common::nix::{self, Step, tree};
use crate::common::trace;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

type Way = fn(&Path, bool) -> Vec<Step>;
type Tree = BTreeMap<PathBuf, String>;

/// Puts the upper back to what `layers` made.
fn fresh_upper(fx: &Fixture) {
    let (upper, kept) = (fx.upper().path(""), fx.scratch("kept"));
    if !kept.is_dir() {
        run(Command::new("cp").arg("-a").arg(&upper).arg(&kept));
    }
    run(Command::new("chmod").args(["-R", "u+rwX"]).arg(&upper));
    run(Command::new("find")
        .arg(&upper)
        .args(["-mindepth", "1", "-delete"]));
    run(Command::new("cp").arg("-a").arg(kept.join(".")).arg(&upper));
}

/// Whether `found` is the old object, or what the lower has of it with a part of what the upper
/// added: somebody was just deleting that.
fn is_old(found: &Tree, lower: &Tree, old: &Tree) -> bool {
    let within = |small: &Tree, big: &Tree| small.iter().all(|(k, v)| big.get(k) == Some(v));
    within(lower, found) && within(found, old)
}

#[track_caller]
fn old_or_new(fx: &Fixture, name: &str, old: &Tree, live: Option<&Tree>, after: &str) {
    let m = fx.mount();
    let found = tree(&m.path(name));
    let lower = tree(&fx.lower().path(name));
    assert!(
        is_old(&found, &lower, old) || Some(&found) == live,
        "{name} after {after}: {found:#?}, neither {old:#?} nor {live:#?}"
    );
    for entry in fs::read_dir(fx.upper().path("")).must() {
        let left = entry.must().file_name();
        assert!(
            !left.to_str().expect("ASCII").starts_with(".overstore"),
            "{left:?} is left"
        );
    }
}

/// Kills the driver after each step of a repair of each of `objects`.
fn at_every_step(fx: &Fixture, way: Way, objects: &[(&str, bool)]) {
    layers(fx);
    for &(name, directory) in objects {
        let mut done = 0;
        loop {
            fresh_upper(fx);
            let m = fx.mount_with("repair");
            let old = tree(&m.path(name));
            let steps = way(&m.path(name), directory);
            for step in &steps[..done] {
                step.run().must();
            }
            let live = tree(&m.path(name));
            let old_is_gone = live.values().all(|text| !text.contains("bad"));
            let live = Some(&live).filter(|live| old_is_gone && !live.is_empty());
            m.crash();
            let after = format!("{:?}", done.checked_sub(1).map(|at| &steps[at]));
            old_or_new(fx, name, &old, live, &after);
            if done == steps.len() {
                break;
            }
            done += 1;
        }
    }
    fresh_upper(fx);
}

for_each_mode!(
    /// "crash at any point leaves either the old or the new object": deleted and written anew.
    while_objects_of_the_lower_are_written_anew,
    |fx| {
        at_every_step(fx, nix::substitute, &OBJECTS[..2]);
    }
);

for_each_mode!(
    /// The same for objects in both layers.
    while_objects_of_both_are_written_anew,
    |fx| {
        at_every_step(fx, nix::substitute, &OBJECTS[2..]);
    }
);

for_each_mode!(
    /// The same while they are moved away and replaced.
    while_objects_of_the_lower_are_replaced,
    |fx| {
        at_every_step(fx, nix::replace, &OBJECTS[..2]);
    }
);

for_each_mode!(
    /// The same for objects in both layers.
    while_objects_of_both_are_replaced,
    |fx| {
        at_every_step(fx, nix::replace, &OBJECTS[2..]);
    }
);

/// Has the driver's next system call `call` fail, undone, with what `signal` adds.
fn fail_at(fx: &Fixture, m: &MountGuard, call: &str, signal: &str) -> Child {
    let notes = fx.scratch("inject.log");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error=EIO{signal}:when=1")])
        .args(["-p", &m.driver_pid().to_string()]);
    let child = strace.stderr(File::create(&notes).must()).spawn().must();
    let attached = || fs::read_to_string(&notes).must().contains("attached");
    assert!(
        within(Duration::from_secs(10), attached),
        "strace did not attach: {}",
        fs::read_to_string(&notes).must()
    );
    child
}

/// The steps of a repair of `dir` up to the one that puts the new directory there, and that one.
fn up_to_the_new(m: &MountGuard, way: Way) -> (Vec<Step>, Step) {
    let mut steps = way(&m.path("dir"), true);
    let arrives = |step: &Step| match step {
        Step::Mkdir(path) => path.ends_with("dir"),
        Step::Rename(_, to) => to.ends_with("dir"),
        _ => false,
    };
    let at = steps.iter().position(arrives).expect("it is among them");
    steps.truncate(at + 1);
    let last = steps.pop().expect("it is there");
    (steps, last)
}

/// What the making of the new directory asks of the upper's filesystem, in both ways.
const CALLS: [(Way, &[&str]); 2] = [
    (
        nix::substitute,
        &["mkdirat", "setxattr", "/chmod", "renameat2"],
    ),
    (nix::replace, &["setxattr", "renameat2"]),
];

for_each_mode!(
    /// "crash at any point": in the middle of one request, before each of its system calls.
    killed_within_one_request,
    [root],
    |fx| {
        layers(fx);
        if trace::directory().is_some() {
            // A process has one tracer, and this one has to follow what the driver writes.
            return;
        }
        for (way, calls) in CALLS {
            for call in calls {
                fresh_upper(fx);
                // Not watched: a driver that is killed while it tells the kernel of a name, in the
                // middle of a change of that directory, leaves both to wait for each other until
                // somebody aborts the connection.
                let mut m = fx.mount_with("repair,watch=off");
                let old = tree(&m.path("dir"));
                let (steps, last) = up_to_the_new(&m, way);
                for step in &steps {
                    step.run().must();
                }
                let mut tracer = fail_at(fx, &m, call, ":signal=KILL");
                let cut_off = last.run().expect_err("the call was not met");
                assert_ne!(cut_off.raw_os_error(), Some(Errno::IO.raw_os_error()), "{call}");
                tracer.wait().must();
                m.crashed();
                old_or_new(fx, "dir", &old, None, call);
            }
        }
        fresh_upper(fx);
    }
);

for_each_mode!(
    /// A step that fails leaves everything as it was: names, marks, nothing half-made; it can be
    /// done again.
    a_step_that_fails,
    [root],
    |fx| {
        layers(fx);
        if trace::directory().is_some() {
            return;
        }
        let fails_once = |m: &MountGuard, call: &str, step: &Step| {
            let shown = tree(&m.path(""));
            let hidden = status(m)["hidden"].clone();
            let upper = tree(&fx.upper().path(""));
            let mut tracer = fail_at(fx, m, call, "");
            fails(Errno::IO, call, step.run());
            tracer.kill().must();
            tracer.wait().must();
            assert_eq!(tree(&m.path("")), shown, "{step:?}, {call}");
            assert_eq!(tree(&fx.upper().path("")), upper, "{step:?}, {call}");
            assert_eq!(status(m)["hidden"], hidden, "{step:?}, {call}");
            assert_eq!(manifest::markers(&fx.upper().path("")), [""; 0], "{step:?}, {call}");
            step.run().must();
        };
        for (way, calls) in CALLS {
            for call in calls {
                fresh_upper(fx);
                let m = fx.mount_with("repair");
                let (steps, last) = up_to_the_new(&m, way);
                for step in &steps {
                    step.run().must();
                }
                fails_once(&m, call, &last);
                assert_eq!(manifest::markers(&fx.upper().path("")).len(), 1);
            }
        }
        fresh_upper(fx);
        let m = fx.mount_with("repair");
        let at = |name: &str| m.path(name);
        fails_once(&m, "unlinkat", &Step::Unlink(at("dupfile")));
        fails_once(&m, "renameat2", &Step::Rename(at("part"), at("part.old")));
        for name in ["dup/f", "dup/sub/g"] {
            fs::remove_file(at(name)).must();
        }
        fails_once(&m, "unlinkat", &Step::Rmdir(at("dup/sub")));
        fails_once(&m, "unlinkat", &Step::Rmdir(at("dup")));
        drop(m);
        fresh_upper(fx);
    }
);
