// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain use of a lower that is served: all of it is there, and changes show in time.

use super::server::Server;
use super::sshd::Sshd;
use super::world::{self, describe, is_whole, status};
use crate::common::check::{Must, absent, listed_numbers_are_true, reads, stat, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mount::MountGuard;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// What a change on the server's side may take to show: `lower-ttl` (1 s), the lower's own caches
/// (of sshfs without `dir_cache`: 1 s) and a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// Everything of the layers is there, as the served directory shows it.
fn all_is_there(fx: &Fixture, lower: &Path, view: &MountGuard) {
    is_whole(fx, view);
    listed_numbers_are_true(&view.path(""));
    for (name, line) in describe(lower, true) {
        let path = fx.scratch("up/upper").join(&name);
        if path.is_dir() || fs::symlink_metadata(&path).is_err() {
            let links = |of: &Path| stat(&of.join(&name)).nlink();
            let directory = line.starts_with("dir");
            assert!(
                directory || links(&view.path("")) == links(lower),
                "links of {name:?}"
            );
        }
    }
    let told = status(view);
    assert_eq!(told["watched"], false, "{told}");
    assert!(told["unwatched-because"].is_string(), "{told}");
    let log = fs::read_to_string(fx.scratch("driver.log")).must();
    let said = log
        .lines()
        .filter(|line| line.contains("show after lower-ttl only"));
    assert_eq!(said.count(), 1, "{log}");
}

/// Names that come and go on the server's side show, also those that were looked for before.
fn changes_show(fx: &Fixture, view: &MountGuard) {
    let store = fx.scratch("store");
    fs::set_permissions(&store, PermissionsExt::from_mode(0o755)).must();
    absent(&view.path("late"));
    let names = || fs::read_dir(view.path("")).must().count();
    let before = names();
    fs::write(store.join("late"), "late").must();
    assert!(
        within(SOON, || fs::read(view.path("late")).is_ok()),
        "a new name"
    );
    reads(&view.path("late"), "late");
    assert!(
        within(SOON, || names() == before + 1),
        "a new name in the listing"
    );
    fs::remove_file(store.join("late")).must();
    assert!(
        within(SOON, || fs::symlink_metadata(view.path("late")).is_err()),
        "a removed name"
    );
    assert!(
        within(SOON, || names() == before),
        "a removed name in the listing"
    );
    absent(&view.path("late"));
}

for_each_mode!(
    /// "A lower served over the network for real on this machine: sshfs to a local sshd": contents,
    /// kinds, modes, sizes, link counts, numbers and listings are those of the directory behind it;
    /// "where watching cannot work: detected, said once in the log and in `status`, and replaced by
    /// short lifetimes".
    sshfs,
    [root, user],
    |fx| {
        let store = world::store(fx);
        let sshd = Sshd::new(fx.mode(), &fx.scratch("ssh"));
        let lower = fx.scratch("low");
        for options in ["dir_cache=no", "reconnect,dcache_timeout=1"] {
            let server = sshd.sshfs(fx.mode(), &store.path(""), &lower, options);
            let view = world::mount(fx, &lower, "");
            all_is_there(fx, &lower, &view);
            changes_show(fx, &view);
            drop(view);
            drop(server);
        }
    }
);

for_each_mode!(
    /// "and a second FUSE filesystem": the same on bindfs.
    bindfs,
    |fx| {
        let store = world::store(fx);
        let lower = fx.scratch("low");
        let _server = Server::bindfs(fx.mode(), &store.path(""), &lower);
        let view = world::mount(fx, &lower, "");
        all_is_there(fx, &lower, &view);
        changes_show(fx, &view);
    }
);

for_each_mode!(
    /// What the kernel forgets of sshfs has another number afterwards. An open file and an open
    /// directory are still the same.
    numbers_that_change,
    [root],
    |fx| {
        let store = world::store(fx);
        let sshd = Sshd::new(fx.mode(), &fx.scratch("ssh"));
        let lower = fx.scratch("low");
        let _server = sshd.sshfs(fx.mode(), &store.path(""), &lower, "reconnect");
        let view = world::mount(fx, &lower, "");
        let file = fs::File::open(view.path("aaa/f")).must();
        let dir = fs::File::open(view.path("aaa/sub")).must();
        let before = stat(&lower.join("aaa/f")).ino();
        fs::write("/proc/sys/vm/drop_caches", "2").must();
        describe(&lower, false);
        assert_ne!(stat(&lower.join("aaa/f")).ino(), before, "nothing was forgotten");
        assert_eq!(std::io::read_to_string(&file).must(), "lower");
        let flags = rustix::fs::OFlags::RDONLY;
        let inside = rustix::fs::openat(&dir, "x", flags, rustix::fs::Mode::empty()).must();
        assert_eq!(std::io::read_to_string(fs::File::from(inside)).must(), "deep");
        is_whole(fx, &view);
    }
);
