// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the probes say where they cannot look, and what they leave behind when they are ended.

use super::world::{Checked, World, can_mount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Stdio};

/// No trial can be started: none says no, and nothing is said to hang.
#[test]
fn trials_that_cannot_be_started() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    // The process is that of the loader, which knows no trials.
    let script = "overstore=$(command -v overstore)
        for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-*.so.*; do test -x $loader && break; done
        exec $loader $overstore check --json \"$URL\"";
    let checked = Checked::of(&world.shell(script).output().unwrap());
    assert_eq!(checked.ids(), [""; 0], "{:#}", checked.report["faults"]);
    assert!(checked.unseen().contains(&"whiteout"));
    for probe in [
        "namespace",
        "privilege",
        "fuse-mount",
        "overlay",
        "watch",
        "upper-kernel",
    ] {
        assert_eq!(checked.probe(probe), "unknown", "{probe}");
    }
}

/// Want of descriptors is no answer.
#[test]
fn want_of_descriptors() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    for script in [
        "prlimit --nofile=4 overstore try watch u l/nix/store",
        "exec 3</dev/null; prlimit --nofile=5 overstore try watch u l/nix/store",
    ] {
        let output = world.shell(script).output().unwrap();
        let said = output.stdout.escape_ascii().to_string();
        assert!(said.contains("Too many open files"), "{script}: {said}");
        assert_eq!(output.status.code(), Some(3), "{script}: {said}");
    }
}

/// However little room the upper's filesystem has: OverlayFS is not said to refuse it.
#[test]
fn want_of_room() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("mkdir small low m");
    let mut answers = Vec::new();
    for inodes in [3, 5, 6, 7, 8, 9, 10, 40] {
        let script = format!(
            "mount -t tmpfs -o nr_inodes={inodes} t small; trap 'umount small' EXIT; mkdir small/up
            overstore check --json -o lowerdir=$PWD/low,upperdir=$PWD/small/up,nix-check=off $PWD/m || test $? = 1
            test \"$(ls -A small)\" = up"
        );
        let output = world.shell(&script).output().unwrap();
        assert!(output.status.success(), "{inodes}: {output:?}");
        answers.push(Checked::of(&output).probe("upper-kernel").to_owned());
    }
    assert!(!answers.iter().any(|answer| answer == "no"), "{answers:?}");
    assert_eq!(answers.first().map(String::as_str), Some("unknown"));
    assert_eq!(
        answers.last().map(String::as_str),
        Some("yes"),
        "{answers:?}"
    );
}

/// Scratch directories that are there, beside the upper.
fn left(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(".overstore-probe-"))
        .collect()
}

/// Ends a check with `signal` while it has a scratch directory. A shell in the background hands down
/// SIGINT as ignored.
fn end_by(world: &World, signal: Signal) {
    use std::os::unix::process::ExitStatusExt;
    for _ in 0..50 {
        let mut check = world.shell("exec env --default-signal overstore check --json \"$URL\"");
        check.stdout(Stdio::null()).stderr(Stdio::null());
        let mut check = check.spawn().unwrap();
        let pid = Pid::from_raw(check.id().cast_signed()).unwrap();
        let caught = stopped_with_scratch(world, &mut check, pid);
        if caught {
            kill_process(pid, signal).unwrap();
        }
        // It is gone already if it was too fast.
        let _gone = kill_process(pid, Signal::CONT);
        let status = check.wait().unwrap();
        if caught {
            assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
            return;
        }
    }
    panic!("no check was seen with a scratch directory");
}

/// Stops the check while it has a scratch directory; false if it had none any more by then.
fn stopped_with_scratch(world: &World, check: &mut Child, pid: Pid) -> bool {
    while left(world).is_empty() {
        if check.try_wait().unwrap().is_some() {
            return false;
        }
    }
    if kill_process(pid, Signal::STOP).is_err() {
        return false;
    }
    let state = format!("/proc/{}/stat", check.id());
    loop {
        let stat = fs::read_to_string(&state).unwrap();
        match stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next())
        {
            Some('T') => return !left(world).is_empty(),
            Some('Z') => return false,
            _ => {}
        }
    }
}

#[test]
fn a_check_that_is_ended_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        end_by(&world, signal);
        assert_eq!(left(&world), [""; 0], "{signal:?}");
    }
}

#[test]
fn what_a_killed_check_left_goes_with_the_next() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    end_by(&world, Signal::KILL);
    assert_eq!(left(&world).len(), 1);
    world.must("mkdir -p keep/inside && ln -s ../keep .overstore-probe-link
        mkdir -p .overstore-probe-1/w && ln -s $PWD/keep .overstore-probe-1/w/work && ln -s $PWD/keep .overstore-probe-1/u
        chmod 711 keep; mkdir .overstore-probe-other && chown 65534 .overstore-probe-other
        mkdir .overstore-probe-used && { flock --no-fork .overstore-probe-used sleep 100 >/dev/null 2>&1 & echo $! >holder; }
        until ! flock -n .overstore-probe-used true; do sleep 0.01; done");
    let probed = world.check();
    world.must("kill $(cat holder)");
    assert_eq!(probed.probe("upper-kernel"), "yes");
    let mut left = left(&world);
    left.sort();
    let others = ["link", "other", "used"].map(|name| format!(".overstore-probe-{name}"));
    assert_eq!(left, others);
    assert_eq!(world.must("stat -c %a keep; ls keep"), "711\ninside\n");
}
