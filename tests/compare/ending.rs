// SPDX-License-Identifier: MIT OR Apache-2.0
//! However a comparison ends, its mounts and its driver end with it.

use crate::asked::{compare, holds};
use crate::common::check::{Must, text, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A comparison that is in the middle of a file that takes minutes to read.
struct Running {
    child: Child,
    driver: Pid,
}

impl Running {
    fn start(fx: &Fixture) -> Running {
        fx.lower().file("small", "x");
        let upper = fx.upper();
        let endless = fs::File::create(upper.file("a", "x").path("endless")).must();
        endless.set_len(1 << 40).must();
        let child = compare(fx)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .must();
        let mounts = PathBuf::from(format!("/proc/{}/mountinfo", child.id()));
        let mounted = within(PATIENCE, || {
            holds(&mounts, "/fuse ") && holds(&mounts, "/kernel ") && holds(&mounts, " - overlay ")
        });
        assert!(mounted, "both views are mounted");
        let mut driver = None;
        within(PATIENCE, || {
            driver = drivers(fx).into_iter().next();
            driver.is_some()
        });
        Running {
            child,
            driver: driver.expect("there is a driver"),
        }
    }
}

/// The drivers of comparisons of these layers: the program that was started has forked them.
fn drivers(fx: &Fixture) -> Vec<Pid> {
    let layers = fx.scratch("low/lower");
    let layers = layers.to_str().expect("ASCII");
    let processes = fs::read_dir("/proc").must().flatten();
    let of_ours = |path: &Path| {
        holds(&path.join("comm"), "overstore-serve") && holds(&path.join("cmdline"), layers)
    };
    processes
        .map(|entry| entry.path())
        .filter(|path| of_ours(path))
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .collect()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process has a number")
}

/// Sends a signal to a comparison; nothing of it is left.
fn ends_by(fx: &Fixture, signal: Signal) {
    let mut running = Running::start(fx);
    let before = fs::read("/proc/self/mountinfo").must();
    kill_process(pid(&running.child), signal).must();
    let status = running.child.wait().must();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert!(
        within(PATIENCE, || drivers(fx).is_empty()),
        "the driver ends as well"
    );
    assert_eq!(fs::read("/proc/self/mountinfo").must(), before);
    let left: Vec<_> = fs::read_dir(fx.scratch("up")).must().collect();
    assert_eq!(left.len(), 1, "no work directory: {left:?}");
}

for_each_mode!(interrupted, |fx| {
    ends_by(fx, Signal::INT);
    ends_by(fx, Signal::TERM);
});

for_each_mode!(killed, |fx| {
    ends_by(fx, Signal::KILL);
});

for_each_mode!(a_driver_that_dies_is_no_difference, |fx| {
    let running = Running::start(fx);
    kill_process(running.driver, Signal::KILL).must();
    let output = running.child.wait_with_output().must();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("the FUSE driver ended before"), "{error}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(within(PATIENCE, || drivers(fx).is_empty()));
});

for_each_mode!(when_it_is_done_the_driver_is_gone_already, |fx| {
    fx.lower().file("low", "x");
    fx.upper().file("up", "x");
    let status = compare(fx).stdout(Stdio::null()).status().must();
    assert!(status.success());
    assert_eq!(drivers(fx), []);
});
