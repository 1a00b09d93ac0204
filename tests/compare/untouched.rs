// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing is written: not to the layers, not beside them, not where nothing can be written.

use crate::asked::{compare, exits, fill, json};
use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::manifest;
use crate::common::mount::run;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Both layers and what is beside them, to the last attribute.
fn everything(fx: &Fixture) -> manifest::Manifest {
    manifest::of(&fx.scratch(""))
}

for_each_mode!(the_layers_stay_as_they_are, |fx| {
    fill(fx);
    // What a driver that may write would clean up, and what the kernel would mark.
    fx.upper().dir(".overstore-new-3").file("both/deep/x", "y");
    let before = everything(fx);
    exits(&mut compare(fx), 0);
    exits(compare(fx).args(["--strict", "--json"]), 1);
    let changed = manifest::differences(&before, &everything(fx));
    assert!(changed.is_empty(), "{changed:#?}");
});

for_each_mode!(access_times_stay_as_they_are, [root], |fx| {
    fill(fx);
    let names = [
        fx.lower().path("low/file"),
        fx.upper().path("up/file"),
        fx.upper().path("up"),
    ];
    for name in &names {
        // Older than a day: relatime would move it.
        run(Command::new("touch")
            .args(["-a", "-d", "2001-01-01"])
            .arg(name));
    }
    exits(&mut compare(fx), 0);
    for name in &names {
        assert_eq!(
            fs::metadata(name).must().atime() / 86400,
            978_307_200 / 86400,
            "{name:?}"
        );
    }
});

for_each_mode!(while_a_view_is_mounted_both_stay_as_they_are, |fx| {
    fill(fx);
    let view = fx.mount_with("xattr");
    let before = (everything(fx), manifest::of(&view.path("")));
    exits(&mut compare(fx), 0);
    let after = (everything(fx), manifest::of(&view.path("")));
    let mut changed = manifest::differences(&before.0, &after.0);
    changed.extend(manifest::differences(&before.1, &after.1));
    assert!(changed.is_empty(), "{changed:#?}");
});

for_each_mode!(layers_on_a_read_only_filesystem, [root, userns], |fx| {
    for name in ["low", "up"] {
        let place = fx.scratch(name);
        fs::create_dir(&place).must();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&place));
    }
    fill(fx);
    for name in ["low", "up"] {
        // In a user namespace mount(8) knows no better than the second.
        let script = "mount -o remount,ro \"$0\" 2>/dev/null || mount -o remount,bind,ro \"$0\"";
        run(Command::new("sh")
            .args(["-c", script])
            .arg(fx.scratch(name)));
    }
    let report = json(&mut compare(fx), 0);
    assert_eq!(report["objects"], 26, "{report:#}");
    for name in ["low", "up"] {
        run(Command::new("umount").arg(fx.scratch(name)));
    }
});
