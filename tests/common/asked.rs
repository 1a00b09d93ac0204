// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver asks of the layers while something is done on the mount, as strace sees it.

use super::check::{Must, within};
use super::fixture::Fixture;
use super::mount::MountGuard;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

/// Returns what the driver asks of the layers while `work` is done.
pub(crate) fn during(fx: &Fixture, m: &MountGuard, work: impl FnOnce()) -> Vec<String> {
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
    work();
    let pid = Pid::from_raw(strace.id().cast_signed()).expect("a process has a number");
    kill_process(pid, Signal::INT).must();
    strace.wait().must();
    let of_files = [
        "statx(", "open", "xattr", "readlink", "getdents", "fstat", "access", "pread",
    ];
    let text = fs::read_to_string(&log).must();
    let asked = |line: &&str| of_files.iter().any(|call| line.contains(call));
    text.lines().filter(asked).map(str::to_owned).collect()
}
