// SPDX-License-Identifier: MIT OR Apache-2.0
//! The representative checks on every filesystem that a layer may be on: one filesystem for both
//! layers, two different ones, read-only images, and another overlay.

use crate::common::check::{Must, listed_numbers_are_true, listing, lists, reads, stat};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::layer::{Family, LayerBuilder};
use crate::common::mount::run;
use crate::representative::{CHECKS, lower_tree, upper_tree};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Mounts a fresh filesystem at `directory`, from an image in the scratch directory.
fn mount_fresh(fx: &Fixture, kind: &str, directory: &Path) {
    fs::create_dir_all(directory).must();
    if kind == "tmpfs" {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(directory));
        return;
    }
    let (megabytes, flags): (u64, &[&str]) = match kind {
        "ext4" => (64, &["-q", "-F"]),
        "xfs" => (320, &["-q", "-f"]),
        _ => (160, &["-q", "-f"]),
    };
    let image = fx.scratch(&format!("{kind}.image"));
    File::create(&image).must().set_len(megabytes << 20).must();
    need(fx, &format!("mkfs.{kind}"));
    run(Command::new(format!("mkfs.{kind}")).args(flags).arg(&image));
    run(Command::new("mount")
        .args(["-t", kind, "-o", "loop"])
        .arg(&image)
        .arg(directory));
}

/// Skips the test if a program is not installed.
fn need(fx: &Fixture, program: &str) {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .output()
        .must();
    if !found.status.success() {
        fx.skip(&format!("{program} is not installed"));
    }
}

/// Writes `source` into an image of a read-only filesystem and mounts it at `low/lower`.
fn mount_image(fx: &Fixture, kind: &str, source: &LayerBuilder) {
    let image = fx.scratch("image");
    let mut make = match kind {
        "squashfs" => {
            need(fx, "mksquashfs");
            let mut make = Command::new("mksquashfs");
            make.arg(source.path(""))
                .arg(&image)
                .args(["-noappend", "-quiet", "-no-progress"]);
            make
        }
        _ => {
            need(fx, "mkfs.erofs");
            let mut make = Command::new("mkfs.erofs");
            make.arg(&image).arg(source.path(""));
            make
        }
    };
    run(&mut make);
    let target = fx.lower().path("");
    run(Command::new("mount")
        .args(["-t", kind, "-o", "loop,ro"])
        .arg(&image)
        .arg(target));
}

/// Mounts both trees and runs every check.
fn check_all(fx: &Fixture) {
    let m = fx.mount();
    for (name, check) in CHECKS {
        println!("{name}");
        check(fx, &m);
    }
}

/// Both layers on one filesystem of `kind`.
fn on_one(fx: &Fixture, kind: &str) {
    mount_fresh(fx, kind, &fx.scratch("up"));
    fs::create_dir_all(fx.scratch("low")).must();
    run(Command::new("mount")
        .arg("--bind")
        .args([fx.scratch("up"), fx.scratch("low")]));
    lower_tree(&fx.lower());
    upper_tree(&fx.upper());
    check_all(fx);
}

/// Each layer on a filesystem of its own.
fn on_two(fx: &Fixture, lower: &str, upper: &str) {
    mount_fresh(fx, lower, &fx.scratch("low"));
    mount_fresh(fx, upper, &fx.scratch("up"));
    lower_tree(&fx.lower());
    upper_tree(&fx.upper());
    check_all(fx);
}

/// A read-only image below, the scratch filesystem above.
fn on_image(fx: &Fixture, kind: &str) {
    let source = LayerBuilder::new(fx.scratch("source"), Family::Trusted);
    lower_tree(&source);
    mount_image(fx, kind, &source);
    upper_tree(&fx.upper());
    check_all(fx);
}

macro_rules! combinations {
    ($($name:ident: $run:expr;)+) => {
        $(for_each_mode!(
            /// "Lowers and uppers on ext4, xfs, btrfs, tmpfs, squashfs and erofs, on two different
            /// filesystems: the same tests pass."
            $name, [root], |fx| {
                if fx.on_kernel() {
                    fx.skip("most checks are about the driver's own semantics");
                }
                let run: fn(&Fixture) = $run;
                run(fx);
            }
        );)+
    };
}

combinations! {
    scratch: |fx| { lower_tree(&fx.lower()); upper_tree(&fx.upper()); check_all(fx) };
    ext4: |fx| on_one(fx, "ext4");
    xfs: |fx| on_one(fx, "xfs");
    btrfs: |fx| on_one(fx, "btrfs");
    tmpfs: |fx| on_one(fx, "tmpfs");
    xfs_below_tmpfs: |fx| on_two(fx, "xfs", "tmpfs");
    tmpfs_below_btrfs: |fx| on_two(fx, "tmpfs", "btrfs");
    btrfs_below_ext4: |fx| on_two(fx, "btrfs", "ext4");
    squashfs_below: |fx| on_image(fx, "squashfs");
    erofs_below: |fx| on_image(fx, "erofs");
    overlay_below: overlay_below;
    overlay_above: overlay_above;
}

/// The lower is a mount of the kernel's OverlayFS: half of its tree is in each of its layers.
fn overlay_below(fx: &Fixture) {
    let base = LayerBuilder::new(fx.scratch("ov/base"), Family::Trusted);
    let top = LayerBuilder::new(fx.scratch("ov/top"), Family::Trusted);
    lower_tree(&base);
    fs::rename(base.path("only"), top.path("only")).must();
    base.file("surplus", "x").file("g", "wrong");
    top.whiteout("surplus").file("g", "lower");
    fs::create_dir_all(fx.scratch("ov/work")).must();
    let layers = ["base", "top", "work"].map(|name| fx.scratch("ov").join(name));
    let [base, top, work] = layers.map(|path| path.display().to_string());
    let options = format!("lowerdir={base},upperdir={top},workdir={work},xino=off");
    let target = fx.lower().path("");
    run(Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(target));
    upper_tree(&fx.upper());
    check_all(fx);
}

/// The upper is on a mount of the kernel's OverlayFS, as in every container. No whiteout and no mark
/// can be made there, so what is checked is the writing.
fn overlay_above(fx: &Fixture) {
    let names = ["base", "top", "work"].map(|name| fx.scratch("ov").join(name));
    for name in &names {
        fs::create_dir_all(name).must();
    }
    let [base, top, work] = names.map(|path| path.display().to_string());
    let target = fx
        .upper()
        .path("")
        .parent()
        .expect("in the scratch directory")
        .to_owned();
    fs::create_dir_all(&target).must();
    run(Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o"])
        .arg(format!("lowerdir={base},upperdir={top},workdir={work}"))
        .arg(target));
    fx.lower().file("low/f", "lower");
    fx.upper().file("d/old", "old").file("low/up", "upper");
    let m = fx.mount();
    fs::write(m.path("d/new"), "new").must();
    fs::hard_link(m.path("d/new"), m.path("d/link")).must();
    fs::rename(m.path("d"), m.path("e")).must();
    fs::create_dir(m.path("d")).must();
    fs::rename(m.path("e/link"), m.path("d/moved")).must();
    fs::remove_file(m.path("e/old")).must();
    fs::remove_file(m.path("low/up")).must();
    reads(&m.path("e/new"), "new");
    reads(&m.path("low/f"), "lower");
    assert_eq!(stat(&m.path("d/moved")).nlink(), 2);
    assert_eq!(
        stat(&m.path("d/moved")).ino(),
        stat(&fx.upper().path("d/moved")).ino()
    );
    lists(&m.path(""), &["d", "e", "low"]);
    lists(&m.path("low"), &["f"]);
    listed_numbers_are_true(&m.path("d"));
}

for_each_mode!(
    /// "btrfs (subvolumes)" inside one layer: objects of different subvolumes have the same inode
    /// numbers, and are never taken for each other.
    btrfs_subvolumes,
    [root],
    |fx| {
        mount_fresh(fx, "btrfs", &fx.scratch("up"));
        fs::create_dir_all(fx.scratch("low")).must();
        run(Command::new("mount").arg("--bind").args([fx.scratch("up"), fx.scratch("low")]));
        for layer in [fx.lower(), fx.upper()] {
            for number in 0..4 {
                let volume = layer.path(format!("volume-{number}"));
                run(Command::new("btrfs").args(["subvolume", "create"]).arg(volume));
            }
        }
        for number in 0..4 {
            fx.lower().file(format!("volume-{number}/low"), format!("low {number}"));
            fx.upper().file(format!("volume-{number}/up"), format!("up {number}"));
        }
        assert_eq!(
            stat(&fx.lower().path("volume-0/low")).ino(),
            stat(&fx.lower().path("volume-3/low")).ino(),
            "the point of this test"
        );
        let m = fx.mount();
        let open: Vec<_> = (0..4).map(|n| File::open(m.path(format!("volume-{n}/low"))).must()).collect();
        for (number, file) in open.iter().enumerate() {
            reads(&m.path(format!("volume-{number}/low")), &format!("low {number}"));
            reads(&m.path(format!("volume-{number}/up")), &format!("up {number}"));
            assert_eq!(std::io::read_to_string(file).must(), format!("low {number}"));
            let new = format!("volume-{number}/new");
            fs::write(m.path(&new), format!("new {number}")).must();
        }
        for number in 0..4 {
            reads(&m.path(format!("volume-{number}/new")), &format!("new {number}"));
            fs::remove_file(m.path(format!("volume-{number}/new"))).must();
        }
    }
);

for_each_mode!(
    /// "squashfs and erofs (where a file may have inode number 1)": the number that FUSE keeps for
    /// its root belongs to a file here.
    a_file_with_number_one,
    [root],
    |fx| {
        let source = LayerBuilder::new(fx.scratch("source"), Family::Trusted);
        source.file("first", "lower").file("second", "other");
        mount_image(fx, "squashfs", &source);
        assert_eq!(stat(&fx.lower().path("first")).ino(), 1, "the point of this test");
        let m = fx.mount();
        for _ in 0..3 {
            reads(&m.path("first"), "lower");
            reads(&m.path("second"), "other");
            assert!(stat(&m.path("first")).is_file() && stat(&m.path("")).is_dir());
        }
        crate::common::check::lists(&m.path(""), &["first", "second"]);
        fs::write(m.path("new"), "new").must();
        reads(&m.path("new"), "new");
    }
);

for_each_mode!(
    /// "What is mounted inside a layer is not shown": neither what was there before nor what
    /// arrives later, whatever the host shares; the directory underneath is.
    mounts_inside_a_layer,
    [root, userns],
    |fx| {
        for layer in ["low", "up"] {
            let directory = fx.scratch(layer);
            fs::create_dir_all(&directory).must();
            run(Command::new("mount").arg("--bind").args([&directory, &directory]));
            run(Command::new("mount").arg("--make-shared").arg(&directory));
        }
        for (layer, name) in [(fx.lower(), "low"), (fx.upper(), "up")] {
            layer.dir(format!("{name}/before")).dir(format!("{name}/after")).file(format!("{name}/f"), "f");
        }
        let places = |when: &str| {
            [fx.lower().path(format!("low/{when}")), fx.upper().path(format!("up/{when}"))]
        };
        let occupy = |place: &Path| {
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(place));
            fs::write(place.join("foreign"), "x").must();
        };
        places("before").iter().for_each(|place| occupy(place));
        let m = fx.mount();
        places("after").iter().for_each(|place| occupy(place));
        for name in ["low/before", "low/after", "up/before", "up/after"] {
            assert_eq!(listing(&m.path(name)).len(), 0, "{name}");
            assert!(stat(&m.path(name)).is_dir());
        }
        listed_numbers_are_true(&m.path("low"));
        listed_numbers_are_true(&m.path("up"));
        fs::write(m.path("up/before/own"), "x").must();
        lists(&m.path("up/before"), &["own"]);
        fs::rename(m.path("up/before/own"), m.path("up/f")).must();
        fs::hard_link(m.path("up/f"), m.path("up/after/linked")).must();
        reads(&m.path("up/after/linked"), "x");
        for place in places("before").into_iter().chain(places("after")) {
            assert_eq!(listing(&place).len(), 1, "{}", place.display());
            run(Command::new("umount").arg(&place));
        }
        fx.lower_changed_outside();
    }
);
