// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cannot be compared is told: which backend, why, and what to try.

use crate::asked::{compare, exits, fill};
use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mode::program;
use std::path::Path;
use std::process::Command;

#[track_caller]
fn told(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
    let errors = error.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{error}");
}

for_each_mode!(what_is_no_layout, |fx| {
    fx.lower();
    let run = |words: &[&str]| {
        let mut command = Command::new(program());
        command
            .arg("compare")
            .args(words)
            .env_remove("OVERSTORE_STORE")
            .env_remove("NIX_REMOTE");
        exits(&mut command, 2)
    };
    told(&run(&[]), &["store: none is given", "-o lowerdir="]);
    told(
        &run(&["/"]),
        &["layers of /: no merged view is mounted there", "name them"],
    );
    told(
        &run(&["daemon"]),
        &["store URL daemon", "does not begin with local-overlay:"],
    );
    told(
        &run(&["-o", "lowerdir=/l,upperdir=/u", "/m"]),
        &["argument /m: unexpected"],
    );
    told(&run(&["-o", "lowerdir=/l,upperdir=/u,fo=1"]), &["fo"]);
    told(
        &run(&["--nonsense"]),
        &["--nonsense", "overstore compare --help"],
    );
    let error = exits(&mut compare(fx), 3);
    told(
        &error,
        &["open upper directory", "No such file", "create it"],
    );
    fx.upper();
    exits(&mut compare(fx), 0);
});

/// Runs a comparison after a shell command, in a mount namespace of its own.
fn after(fx: &Fixture, script: &str, lower: &Path) -> Command {
    let mut command = Command::new("unshare");
    let layers = format!(
        "lowerdir={},upperdir={}",
        lower.display(),
        fx.scratch("up/upper").display()
    );
    command
        .args(["-m", "--propagation", "private", "sh", "-euc"])
        .arg(format!("{script}\nexec \"$0\" compare -o \"$1\""))
        .arg(program())
        .arg(layers);
    command
}

for_each_mode!(no_fuse, [root], |fx| {
    fill(fx);
    let lower = fx.scratch("low/lower");
    let error = exits(&mut after(fx, "mount -t tmpfs none /dev", &lower), 3);
    told(
        &error,
        &[
            "the FUSE backend cannot run here",
            "open /dev/fuse",
            "modprobe fuse",
        ],
    );
});

for_each_mode!(a_lower_that_the_kernel_does_not_take, [root], |fx| {
    fx.upper().file("x", "y");
    let error = exits(&mut after(fx, "", Path::new("/proc/sys/kernel/random")), 3);
    told(
        &error,
        &["the kernel backend cannot run here", "not supported"],
    );
});

for_each_mode!(a_plain_user_without_the_device, [root], |fx| {
    fill(fx);
    let all = fx.scratch("");
    std::fs::set_permissions(&all, std::os::unix::fs::PermissionsExt::from_mode(0o755)).must();
    let script = "chmod 0600 /dev/fuse; exec setpriv --reuid=61234 --regid=61234 --clear-groups \
                  \"$0\" compare -o \"$1\"";
    let error = exits(&mut after(fx, script, &fx.scratch("low/lower")), 3);
    told(
        &error,
        &["the FUSE backend cannot run here", "chmod 0666 /dev/fuse"],
    );
});

for_each_mode!(no_namespaces, [root], |fx| {
    fill(fx);
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces";
    let script = format!(
        "exec unshare -U --map-root-user sh -euc '{script}; exec \"$0\" compare -o \"$1\"' \"$0\" \"$1\""
    );
    let error = exits(&mut after(fx, &script, &fx.scratch("low/lower")), 3);
    told(&error, &["namespace"]);
});

for_each_mode!(a_view_that_covers_its_own_lower, [root, userns], |fx| {
    fill(fx);
    let lower = fx.scratch("low/lower");
    let layers = format!(
        "lowerdir={},upperdir={}",
        lower.display(),
        fx.scratch("up/upper").display()
    );
    let mut mount = Command::new(program());
    crate::common::mount::run(mount.args(["mount", "-o", &layers]).arg(&lower));
    let error = exits(&mut compare(fx), 3);
    told(
        &error,
        &[
            "open lower directory",
            "a merged view is mounted over it",
            "overstore umount",
        ],
    );
    crate::common::mount::run(Command::new(program()).arg("umount").arg(&lower));
    exits(&mut compare(fx), 0);
});
