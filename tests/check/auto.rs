// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every decision of `backend=auto`: with FUSE and without, by whom, for which layers.

use super::world::{World, can_mount, stderr};
use std::process::Output;

/// A device that any user may open, as udev makes it.
const OPEN: &str = "mkdir dev && mount -t tmpfs -o mode=755 t dev && mknod -m 666 dev/fuse c 10 229 && mount --bind dev/fuse /dev/fuse;";
/// No device: a directory of devices without it.
const NONE: &str = "mkdir dev && mount -t tmpfs -o mode=755 t dev && mknod -m 666 dev/null c 1 3 && mount --bind dev /dev;";
/// A device that is none.
const FAKE: &str = "touch fake && chmod 666 fake && mount --bind fake /dev/fuse;";
const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";
const DRY: &str = "overstore mount --dry-run -o $L $PWD/m";

/// Runs a script in a mount namespace of its own, in a world with plain directories.
fn run(script: &str) -> Output {
    let world = World::new("l");
    world.must("mkdir low up m && echo text >low/file && chown -R 65534:65534 up m . && chmod 755 low up m");
    let script = format!("mount --make-rprivate /; L=lowerdir=$PWD/low,upperdir=$PWD/up; {script}");
    let mut inside = world.shell("exec unshare -m bash -ec \"$SCRIPT\"");
    inside.env("SCRIPT", script).output().unwrap()
}

/// Requires the exit code, and these words on either stream.
#[track_caller]
fn says(script: &str, code: i32, words: &[&str]) {
    let output = run(script);
    let all = format!(
        "{}{}",
        std::str::from_utf8(&output.stdout).unwrap(),
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(code), "{script}: {all}");
    for word in words {
        assert!(all.contains(word), "{script}: {word:?} is not in: {all}");
    }
}

#[test]
fn fuse_wherever_it_works() {
    if !can_mount() {
        return;
    }
    says(DRY, 0, &["using FUSE, mounted directly"]);
    says(
        &format!("{OPEN} {PLAIN} {DRY}"),
        0,
        &["using FUSE, mounted through", "fusermount3"],
    );
    says(
        &format!("{OPEN} {PLAIN} unshare -Urm {DRY}"),
        0,
        &["using FUSE, mounted directly"],
    );
    let run = "overstore -v run -o $L -- cat /nix/store/file";
    says(
        &format!("{OPEN} {PLAIN} {run}"),
        0,
        &["using FUSE, mounted in a namespace", "text"],
    );
    says(run, 0, &["using FUSE", "text"]);
}

#[test]
fn the_kernel_where_fuse_does_not_work() {
    if !can_mount() {
        return;
    }
    let mount = "overstore mount -o $L $PWD/m && cat m/file && grep $PWD/m /proc/self/mounts";
    for device in [NONE, FAKE] {
        says(
            &format!("{device} {DRY}"),
            0,
            &["using the kernel's OverlayFS, as FUSE"],
        );
        let words = [
            "warning: using the kernel's OverlayFS, as FUSE",
            "text",
            " overlay rw",
        ];
        says(&format!("{device} {mount}"), 0, &words);
        let namespace = format!("{device} {PLAIN} unshare -Urm bash -ec '{mount}'");
        says(
            &format!("export L; {namespace}"),
            0,
            &["using the kernel's", "userxattr"],
        );
    }
    let run = "overstore run -o $L -- bash -c 'cat /nix/store/file; touch /nix/store/new; stat -f -c %T /nix/store'";
    for device in [NONE, FAKE] {
        let words = ["using the kernel's OverlayFS, as FUSE", "text", "overlayfs"];
        says(&format!("{device} {run}"), 0, &words);
        says(
            &format!("{device} {PLAIN} {run} && test -e up/new"),
            0,
            &words,
        );
    }
}

/// Without the kernel's privilege and without FUSE, both reasons are told.
#[test]
fn an_error_where_neither_works() {
    if !can_mount() {
        return;
    }
    let both = [
        "choose a backend: FUSE: open /dev/fuse",
        "OverlayFS: ",
        "only root",
    ];
    says(&format!("{NONE} {PLAIN} {DRY}"), 3, &both);
    let lonely = format!("{OPEN} mkdir none; {PLAIN} env PATH=$PWD/none $PWD/bin/{DRY}");
    says(&lonely, 3, &["fusermount3", "not installed", "OverlayFS: "]);
    let unpowered = format!("{OPEN} {PLAIN} --no-new-privs {DRY}");
    says(&unpowered, 3, &["may gain no privilege", "OverlayFS: "]);
}

/// A lower that the kernel cannot take is told of, with its filesystem.
#[test]
fn a_lower_that_the_kernel_cannot_take() {
    if !can_mount() {
        return;
    }
    // Two overlays on each other are all that the kernel stacks.
    let deep = "for i in 1 2; do mkdir u$i w$i m$i; done; \
        mount -t overlay -o lowerdir=low,upperdir=u1,workdir=w1 overlay m1; \
        mount -t overlay -o lowerdir=m1,upperdir=u2,workdir=w2 overlay m2; \
        L=lowerdir=$PWD/m2,upperdir=$PWD/up;";
    says(&format!("{deep} {DRY}"), 0, &["using FUSE"]);
    let words = [
        "FUSE: open /dev/fuse",
        "mount OverlayFS of",
        "/m2",
        "the lower is on overlay",
    ];
    says(&format!("{deep} {NONE} {DRY}"), 3, &words);
    says(
        &format!("{deep} {NONE} overstore run -o $L -- true"),
        125,
        &words,
    );
}

/// An upper that the kernel cannot take: its filesystem is FUSE.
#[test]
fn an_upper_that_the_kernel_cannot_take() {
    if !can_mount() {
        return;
    }
    let on_fuse = "mkdir u1 m1; overstore mount -o lowerdir=$PWD/low,upperdir=$PWD/u1 m1; mkdir m1/up; \
        L=lowerdir=$PWD/low,upperdir=$PWD/m1/up;";
    let words = [
        "FUSE: open /dev/fuse",
        "OverlayFS: ",
        "the upper is on fuse.overstore",
    ];
    says(&format!("{on_fuse} {DRY}; {NONE} {DRY}"), 3, &words);
    says(
        &format!("{on_fuse} {NONE} {DRY} || ls -A m1; overstore umount m1"),
        0,
        &["file\n", "up\n"],
    );
}

/// What only the driver does is refused, and named, where the kernel would be chosen.
#[test]
fn options_of_the_driver_are_not_ignored() {
    if !can_mount() {
        return;
    }
    for (option, name) in [
        ("repair", "repair"),
        ("xattr", "xattr"),
        ("lower-ttl=1s", "lower-ttl"),
        ("watch=on", "watch"),
        ("watch=off", "watch"),
        ("noallow_other", "noallow_other"),
    ] {
        let named = format!("error: option {name}:");
        let words = [named.as_str(), "FUSE does not work here: open /dev/fuse"];
        says(
            &format!("{NONE} overstore mount -o $L,{option} $PWD/m"),
            2,
            &words,
        );
        says(
            &format!("{NONE} overstore run -o $L,{option} -- true"),
            125,
            &words,
        );
        says(
            &format!("overstore mount --backend kernel -o $L,{option} $PWD/m"),
            2,
            &words[..1],
        );
        says(
            &format!("overstore mount --dry-run -o $L,{option} $PWD/m"),
            0,
            &["using FUSE"],
        );
    }
    says(
        &format!("{NONE} overstore mount --dry-run -o $L,allow_other,norepair $PWD/m"),
        0,
        &["OverlayFS"],
    );
}
