// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a cold lookup costs: "at most two system calls per cold lookup (one where the upper cannot
//! have the name)", counted by strace.

use crate::common::check::{Must, within};
use crate::common::fixture::Fixture;
use crate::common::mount::MountGuard;
use crate::common::{for_each_mode, trace};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

/// Returns what the driver asks of the layers while `path` is looked up.
fn calls(fx: &Fixture, m: &MountGuard, path: &str) -> Vec<String> {
    let (log, notes) = (fx.scratch("cost.strace"), fx.scratch("cost.notes"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "200", "-o"]).arg(&log);
    strace.args(["-p", &m.driver_pid().to_string()]);
    let mut strace = strace.stderr(File::create(&notes).must()).spawn().must();
    let attached = || fs::read_to_string(&notes).must().contains("attached");
    assert!(
        within(Duration::from_secs(10), attached),
        "strace did not attach"
    );
    drop(fs::symlink_metadata(m.path(path)));
    let pid = Pid::from_raw(strace.id().cast_signed()).expect("a process has a number");
    kill_process(pid, Signal::INT).must();
    strace.wait().must();
    let of_files = [
        "statx(", "open", "xattr", "readlink", "getdents", "fstat", "access",
    ];
    let text = fs::read_to_string(&log).must();
    let asked = |line: &&str| of_files.iter().any(|call| line.contains(call));
    text.lines().filter(asked).map(str::to_owned).collect()
}

for_each_mode!(
    /// Lookups in directories that are in use, of names that the kernel has not asked for before.
    system_calls_of_a_cold_lookup,
    [root],
    |fx| {
        if trace::directory().is_some() || fx.on_kernel() {
            // The driver has a tracer already, or there is none.
            return;
        }
        fx.lower().file("low/warm", "l").file("low/cold", "l").file("both/warm", "l");
        fx.lower().file("both/lower", "l");
        fx.upper().file("up/warm", "u").file("up/cold", "u").file("both/upper", "u");
        let m = fx.mount();
        for warm in ["low/warm", "up/warm", "both/warm"] {
            fs::symlink_metadata(m.path(warm)).must();
        }
        for (path, most) in [
            ("low/cold", 1),
            ("low/missing-in-lower", 1),
            ("up/cold", 1),
            ("up/missing-in-upper", 2),
            ("both/upper", 1),
            ("both/lower", 2),
            ("both/missing-in-both", 2),
        ] {
            let calls = calls(fx, &m, path);
            assert!(!calls.is_empty() && calls.len() <= most, "{path}: {calls:#?}");
        }
    }
);
