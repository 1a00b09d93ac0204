// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watching is wanted and cannot be had: `status` and the log say why, once, and short lifetimes do
//! instead.

use crate::common::check::{Must, within};
use crate::look::{file, listed, nothing};
use crate::promise::status;
use crate::quiet::alone_in_each_mode;
use std::fs;
use std::time::Duration;

alone_in_each_mode!(
    /// This user may have no more inotify instances: a limit that is set for the test's own user
    /// namespace alone.
    no_more_instances,
    [userns],
    |fx| {
        if fx.on_kernel() {
            fx.skip("about the program's own mount");
        }
        fs::write("/proc/sys/user/max_inotify_instances", "0").must();
        fx.lower().file("old", "old");
        let m = fx.mount_with("lower-ttl=500ms");
        let said = status(&m.path(""));
        assert_eq!(said["watched"], false, "{said}");
        let why = said["unwatched-because"].as_str().expect("a reason");
        assert!(why.starts_with("inotify: "), "{why}");
        nothing(&m.path("new")).expect("not there yet");
        listed(&m.path(""), "new", false).expect("not there yet");
        fx.lower().file("new", "new");
        let seen = || file(&m.path("new"), "new").and_then(|()| listed(&m.path(""), "new", true)).is_ok();
        assert!(within(Duration::from_millis(500), seen), "the new name");
        crate::promise::barrier(&m.path(""));
        let log = fs::read_to_string(fx.scratch("driver.log")).must();
        assert_eq!(log.matches("lower-ttl only").count(), 1, "{log}");
        assert!(log.contains(why), "{log}");
        fx.lower_changed_outside();
    }
);
