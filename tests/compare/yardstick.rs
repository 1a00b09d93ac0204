// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's view that is compared with has no upper directory: it must show what a real one
//! shows.

use crate::asked::fill;
use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mount::run;
use overstore::compare::{Difference, Options, What, trees};
use overstore_mount::{Markers, ReadOnly};
use std::fs;
use std::process::Command;

/// Adds what the kernel treats in a way of its own.
fn mark(fx: &Fixture) {
    fx.lower()
        .file(".links/l", "l")
        .dir("redirected/in")
        .file("moved/in-it", "i")
        .file("meta", "m");
    fx.upper()
        .file(".links/u", "u")
        .whiteout("device")
        .whiteout("up/device")
        .whiteout("opaque/device")
        .dir("redirected")
        .marker("redirected", "redirect", "/moved")
        .whiteout("moved")
        .file("meta", "")
        .marker("meta", "metacopy", "")
        .whiteout("up/below/device");
}

/// Mounts a copy of the upper as one; read-only, so that both refuse every change.
fn mount_real(fx: &Fixture, work: &str) {
    let at = |name: &str| fx.scratch(name);
    fs::create_dir(at(work)).must();
    let options = format!(
        "ro,lowerdir={},upperdir={},workdir={},index=off,{}",
        at("low/lower").display(),
        at("copy").display(),
        at(work).display(),
        match fx.mode().is_privileged() {
            true => "redirect_dir=off,metacopy=off,xino=auto",
            false => "xino=auto,userxattr",
        }
    );
    run(Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(at("real")));
}

/// What the real view shows otherwise than the one without an upper.
fn differences(fx: &Fixture) -> Vec<(String, Difference)> {
    let options = Options {
        strict: false,
        threads: 2,
    };
    let report = trees(&fx.scratch("real"), &fx.scratch("reading"), options);
    let report = report.expect("both can be read");
    assert!(report.objects > 30 && report.probes > 300, "{report:#?}");
    let all = report.differences.into_iter();
    // The kernel's listings tell the numbers of the upper side or the lower: none is relied on.
    all.filter(|it| it.what != What::ListedInode)
        .map(|it| (it.path.escape_ascii().to_string(), it))
        .collect()
}

for_each_mode!(
    a_view_without_an_upper_shows_what_one_with_it_shows,
    [root, userns],
    |fx| {
        fill(fx);
        mark(fx);
        for name in ["real", "reading"] {
            fs::create_dir(fx.scratch(name)).must();
        }
        run(Command::new("cp")
            .args(["-a", "up/upper", "copy"])
            .current_dir(fx.scratch("")));
        let reading = ReadOnly {
            lower: fx.scratch("low/lower"),
            upper: fx.scratch("up/upper"),
            merged: fx.scratch("reading"),
            markers: Markers::here(),
        };
        reading.mount().expect("the layers fit");
        mount_real(fx, "work");
        assert_eq!(differences(fx), []);
        // Had the copy lost a whiteout, the two would differ.
        run(Command::new("umount").arg(fx.scratch("real")));
        fs::remove_file(fx.scratch("copy/hidden")).must();
        mount_real(fx, "work-again");
        let paths: Vec<_> = differences(fx).into_iter().map(|(path, _)| path).collect();
        assert!(paths.contains(&"hidden".to_owned()), "{paths:?}");
        for name in ["real", "reading"] {
            run(Command::new("umount").arg(fx.scratch(name)));
        }
    }
);
