// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounting in the background, as users do: `mount` returns once mounted, `status` tells what is
//! mounted, `umount` ends it.

use crate::common::check::{Must, reads, text, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mode::program;
use crate::common::mount::{Stopped, is_mounted, run};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn overstore(fx: &Fixture, words: &[&str]) -> Output {
    let mut command = Command::new(program());
    let output = command
        .args(words)
        .current_dir(fx.scratch(""))
        .stdin(Stdio::null())
        .output();
    output.must()
}

/// Mounts in the background; returns the words to unmount with.
fn mount(fx: &Fixture) -> (String, String) {
    if fx.on_kernel() {
        fx.skip("about the program's own mount");
    }
    fx.lower().file("low", "lower");
    fx.upper().file("up", "upper");
    let merged = fx.scratch("merged");
    fs::create_dir_all(&merged).must();
    let path = |name: &str| {
        fx.scratch(name)
            .to_str()
            .expect("scratch paths are ASCII")
            .to_owned()
    };
    let layers = format!(
        "lowerdir={},upperdir={}",
        path("low/lower"),
        path("up/upper")
    );
    let merged = path("merged");
    let done = overstore(fx, &["mount", "-o", &layers, &merged]);
    assert!(done.status.success(), "mount: {}", text(&done.stderr));
    (layers, merged)
}

for_each_mode!(
    /// "`mount` returns once mounted"; the mount table tells source `overlay` and the layers, as
    /// Nix's check-mount reads them; `umount` ends mount and driver.
    in_the_background,
    |fx| {
        let (layers, merged) = mount(fx);
        reads(&fx.scratch("merged/low"), "lower");
        reads(&fx.scratch("merged/up"), "upper");
        let table = fs::read_to_string("/proc/self/mounts").must();
        let start = format!("overlay {merged} fuse.overstore,{layers} ");
        assert!(table.lines().any(|line| line.starts_with(&start)), "{table}");
        let status = overstore(fx, &["status", "--json", &merged]);
        let json: serde_json::Value = serde_json::from_slice(&status.stdout).must();
        let view = json.get(0).unwrap_or(&json);
        assert_eq!(view["merged"], merged.as_str(), "{json}");
        assert_eq!(view["upper"], fx.scratch("up/upper").to_str().expect("ASCII"), "{json}");
        assert_eq!(view["uid"], rustix::process::geteuid().as_raw(), "{json}");
        assert_eq!(view["watched"], true, "{json}");
        let pid = view["pid"].as_u64().expect("the driver tells its process");
        let done = overstore(fx, &["umount", &merged]);
        assert!(done.status.success(), "umount: {}", text(&done.stderr));
        assert!(!is_mounted(&fx.scratch("merged")));
        let gone = || !alive(pid);
        assert!(within(Duration::from_secs(5), gone), "the driver lives on");
        assert_eq!(fs::read_dir(fx.scratch("merged")).must().count(), 0);
    }
);

for_each_mode!(
    /// "`mount` returns once mounted": the very first thing that the owner does may be to change the
    /// top directory.
    the_owner_may_change_the_top_at_once,
    |fx| {
        let (_, merged) = mount(fx);
        let mode = rustix::fs::Mode::from_raw_mode(0o711);
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::chmodat(rustix::fs::CWD, merged.as_str(), mode, flags).must();
        let done = overstore(fx, &["umount", &merged]);
        assert!(done.status.success(), "umount: {}", text(&done.stderr));
    }
);

/// Tells whether a process runs; one that nobody has reaped yet does not.
fn alive(pid: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !(status.is_empty() || status.contains(") Z "))
}

for_each_mode!(
    /// "a second driver on the same mountpoint is refused", and the first one goes on.
    a_second_driver_is_refused,
    |fx| {
        let (layers, merged) = mount(fx);
        let second = overstore(fx, &["mount", "-o", &layers, &merged]);
        assert!(!second.status.success(), "mounted twice");
        assert_eq!(text(&second.stderr).lines().count(), 1, "{}", text(&second.stderr));
        reads(&fx.scratch("merged/low"), "lower");
        assert!(overstore(fx, &["umount", &merged]).status.success());
        assert!(!is_mounted(&fx.scratch("merged")));
    }
);

for_each_mode!(
    /// "SIGTERM unmounts our own mount only and ends."
    a_signal_unmounts,
    |fx| {
        let (_, merged) = mount(fx);
        let status = overstore(fx, &["status", "--json", &merged]);
        let json: serde_json::Value = serde_json::from_slice(&status.stdout).must();
        let pid = json.get(0).unwrap_or(&json)["pid"].as_u64().expect("a process");
        let mut kill = Command::new("kill");
        assert!(kill.arg(pid.to_string()).status().must().success());
        let ended = || !is_mounted(&fx.scratch("merged")) && !alive(pid);
        assert!(within(Duration::from_secs(10), ended), "mounted or alive after SIGTERM");
    }
);

for_each_mode!(
    /// "End the connection to the driver first: whoever waits for it gets an error": a driver that
    /// hangs keeps nobody for ever, and its mount can be taken away.
    a_driver_that_hangs,
    |fx| {
        let (_, merged) = mount(fx);
        let told = overstore(fx, &["status", "--json", &merged]);
        let status: serde_json::Value = serde_json::from_slice(&told.stdout).must();
        let pid = status["pid"].as_u64().expect("a process");
        let stopped = Stopped::new(u32::try_from(pid).expect("a process"));
        let mut waiting = Command::new("cat");
        let waiting = waiting.arg(fx.scratch("merged/never seen")).stderr(Stdio::null());
        let mut waiting = waiting.spawn().must();
        let told = overstore(fx, &["status", &merged]);
        let forced = overstore(fx, &["umount", "--force", &merged]);
        let ended = within(Duration::from_secs(5), || waiting.try_wait().must().is_some());
        drop(stopped);
        assert!(text(&told.stdout).contains("hung: no answer; end it with"), "{told:?}");
        assert!(forced.status.success() && text(&forced.stderr).is_empty(), "{forced:?}");
        assert!(ended, "it still waits");
        assert!(!is_mounted(&fx.scratch("merged")), "still mounted");
        assert!(within(Duration::from_secs(5), || !alive(pid)), "the driver goes on");
    }
);

for_each_mode!(
    /// The same for a driver that does not hang, where nothing lists the connections: the view goes,
    /// and what it stood on stays.
    a_view_that_is_ended_by_force_goes_alone,
    [root],
    |fx| {
        let merged = fx.scratch("merged");
        fs::create_dir_all(&merged).must();
        run(Command::new("umount").arg("/sys/fs/fuse/connections"));
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&merged));
        fs::write(merged.join("below"), "").must();
        let (_, view) = mount(fx);
        let forced = overstore(fx, &["umount", "--force", &view]);
        assert!(forced.status.success() && text(&forced.stderr).is_empty(), "{forced:?}");
        assert!(merged.join("below").is_file(), "what is below went as well");
        run(Command::new("umount").arg(&merged));
    }
);
