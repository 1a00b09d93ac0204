// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where recording cannot work, it is refused, with the reason.

use crate::common::check::text;
use crate::common::for_each_mode;
use crate::common::mode::program;
use crate::world::{Sure, World};
use std::process::Command;

for_each_mode!(
    /// Nothing is mounted without a database, without changes, or by the kernel.
    record_is_refused_where_it_cannot_work,
    [userns, user],
    |fx| {
        let world = World::new(fx);
        let url = world.url();
        let (lower, upper) = (world.lower.display(), world.upper.display());
        let layers = format!("record,lowerdir={lower},upperdir={upper}");
        let merged = world.merged.display().to_string();
        let read_only = format!("{url}&read-only=true");
        for (words, why) in [
            (
                vec!["mount", "-o", &layers, &merged],
                "option record: mount options name no state directory, so there is no database; \
                 give a store URL, or leave it out",
            ),
            (
                vec!["mount", "-o", "record,ro", &url],
                "option record: nothing is completed through a view that is mounted with ro; \
                 leave one of them out",
            ),
            (
                vec!["mount", "-o", "record", &read_only],
                "option record: the store URL says read-only=true; leave one of them out",
            ),
            (
                vec!["run", "-o", "record", &url, "--", "true"],
                "option record: whoever records in a private view would keep it from ending; \
                 use it with `overstore mount`",
            ),
            (
                vec!["mount", "--backend", "kernel", "-o", "record", &url],
                "option record: the kernel backend has none; leave it out, or use `--backend fuse`",
            ),
        ] {
            let output = Command::new(program()).args(&words).output().sure();
            let said = text(&output.stderr);
            assert!(!output.status.success(), "{words:?}");
            assert!(said.contains(why), "{words:?}: {said}");
            // The kernel backend looks at options when the directories are there.
            let made = world.state.try_exists().sure();
            assert!(!made || words.contains(&"kernel"), "{words:?} made something");
        }
        let mounted = Command::new(program())
            .args(["mount", "--dry-run", "-o", "record,norecord,ro", &url])
            .output();
        assert!(mounted.sure().status.success());
    }
);
