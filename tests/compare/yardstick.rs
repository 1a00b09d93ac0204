// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's view that is compared with has no upper directory: it must show what a real one
//! shows.

use crate::asked::fill;
use crate::common::check::Must;
use crate::common::for_each_mode;
use crate::common::mount::run;
use overstore::compare::{Options, What, trees};
use overstore_mount::{Markers, ReadOnly};
use std::fs;
use std::process::Command;

for_each_mode!(
    a_view_without_an_upper_shows_what_one_with_it_shows,
    [root, userns],
    |fx| {
        fill(fx);
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
        let at = |name: &str| fx.scratch(name);
        for name in ["real", "reading", "work"] {
            fs::create_dir(at(name)).must();
        }
        run(Command::new("cp")
            .args(["-a", "up/upper", "copy"])
            .current_dir(at("")));
        let options = format!(
            "ro,lowerdir={},upperdir={},workdir={},index=off,{}",
            at("low/lower").display(),
            at("copy").display(),
            at("work").display(),
            match fx.mode().is_privileged() {
                true => "redirect_dir=off,metacopy=off,xino=auto",
                false => "xino=auto,userxattr",
            }
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(at("real")));
        let reading = ReadOnly {
            lower: at("low/lower"),
            upper: at("up/upper"),
            merged: at("reading"),
            markers: Markers::here(),
        };
        reading.mount().expect("the layers fit");
        let options = Options {
            strict: false,
            threads: 2,
        };
        let report = trees(&at("real"), &at("reading"), options).expect("both can be read");
        // The kernel's listings tell the numbers of the upper side or the lower: none is relied on.
        let mut differences = report.differences.iter();
        let told = differences.find(|it| it.what != What::ListedInode);
        let told = told.map(|it| (it.path.escape_ascii().to_string(), it));
        assert_eq!(told, None);
        assert!(report.objects > 30 && report.probes > 300, "{report:#?}");
        // Had the copy lost a mark, the two would differ.
        let hidden = at("copy/hidden");
        run(Command::new("umount").arg(at("real")));
        fs::remove_file(hidden).must();
        fs::create_dir_all(at("work2")).must();
        let options_again = format!(
            "ro,lowerdir={},upperdir={},workdir={},index=off{}",
            at("low/lower").display(),
            at("copy").display(),
            at("work2").display(),
            if fx.mode().is_privileged() {
                ""
            } else {
                ",userxattr"
            }
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options_again])
            .arg(at("real")));
        let report = trees(&at("real"), &at("reading"), options).expect("both can be read");
        let paths: Vec<_> = report
            .differences
            .iter()
            .map(|it| it.path.clone())
            .collect();
        assert!(paths.contains(&b"hidden".to_vec()), "{report:#?}");
        for name in ["real", "reading"] {
            run(Command::new("umount").arg(at(name)));
        }
    }
);
