// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts for real: by mount(8), by the library's every way, as root and in a user namespace.
//!
//! Invariant: every mount stands in a private mount namespace that goes with its process.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use common::{Place, can, in_namespace, needs_root, said, text};
use overstore_mount::{Attributes, Markers, Request, Way, create_work, default_work};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

/// What everybody does with it: mount(8), a line of fstab, refresh, a second mount, unmount.
const LIFE: &str = r#"
    mount -t overstore overlay "$D/m" -o "$O,backend=kernel,x-systemd.automount,nofail" || exit 9
    grep " $D/m " /proc/self/mounts | cut -d' ' -f1,3
    grep -o 'nosuid,nodev,relatime,lowerdir=[^,]*,upperdir=[^,]*,' /proc/self/mounts | sed "s|$D|D|g"
    cat m/low; echo new > m/new; cat u/new; mkdir m/a && mv m/a m/b && ls u
    mount -t overstore overlay "$D/m" -o "$O,backend=kernel" 2>/dev/null; echo $?
    mkdir m2; mount -t overstore overlay "$D/m2" -o "$O,backend=kernel" 2>/dev/null; echo $?
    ls m/later 2>/dev/null; echo later > l/later; bin/mount.overstore --refresh "$D/m"; echo $?
    cat m/later
    ln -s mount.overstore bin/overstore-refresh; bin/overstore-refresh "$D/m"; echo $?
    grep -c 'nosuid,nodev,relatime,lowerdir=' /proc/self/mounts
    sbin/mount.overstore overlay "$D/m" -o remount,ro; echo $?
    touch m/no 2>/dev/null; echo $?
    umount m; ls m | wc -l
"#;

const LIFE_SAYS: &str = "overlay overlay\n\
    nosuid,nodev,relatime,lowerdir=D/l,upperdir=D/u,\n\
    from the lower\nnew\nb\nnew\n32\n32\n0\nlater\n0\n1\n0\n1\n0\n";

#[test]
fn by_mount_as_root() {
    let place = Place::new();
    if needs_root() && can(&place, "-m") {
        said(&in_namespace(&place, "-m", LIFE), LIFE_SAYS);
    }
}

#[test]
fn by_mount_in_a_user_namespace() {
    let place = Place::new();
    if can(&place, "-Urm") {
        said(&in_namespace(&place, "-Urm", LIFE), LIFE_SAYS);
    }
}

#[test]
fn by_a_line_of_fstab() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        echo "overlay $D/m overstore $O,backend=kernel,exec,nofail,x-a=b 0 0" > fstab
        mount -T "$D/fstab" "$D/m"; echo $?
        cat m/low
        mount -T "$D/fstab" -a; echo $?
    "#;
    said(
        &in_namespace(&place, "-m", script),
        "0\nfrom the lower\n0\n",
    );
}

#[test]
fn in_the_namespace_that_is_told() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        mkfifo ready
        unshare -m --propagation private sh -c 'echo $$ > ready; exec sleep 100' &
        read other < ready
        for name in "$other" "/proc/$other/ns/mnt"; do
            bin/mount.overstore overlay "$D/m" -N "$name" -o "$O,backend=kernel"; echo $?
            grep -c " $D/m " /proc/self/mounts
            nsenter -t "$other" -m cat "$D/m/low"; nsenter -t "$other" -m umount "$D/m"
        done
        kill "$other"
    "#;
    let one = "0\n0\nfrom the lower\n";
    said(&in_namespace(&place, "-m", script), &one.repeat(2));
}

/// The name under which a child of this test binary runs `inside`.
const INSIDE: &str = "OVERSTORE_TEST_INSIDE_HELPER";

#[test]
fn every_interface_mounts_any_path() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return inside(Path::new(&root));
    }
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let output = Command::new("unshare")
        .args(["-Urm", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "every_interface_mounts_any_path", "--nocapture"])
        .env(INSIDE, place.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Makes the directories of one mount below `place`, and the request for it.
fn request_in(place: &Path) -> Request {
    let [lower, upper, merged] = ["l", "u", "m"].map(|part| place.join(part));
    for directory in [&lower, &upper, &merged] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::write(lower.join("low"), "low").unwrap();
    let work = default_work(&upper);
    assert!(create_work(&work, &upper).unwrap());
    let markers = Markers::here();
    assert_eq!(markers, Markers::User);
    Request {
        lower,
        upper,
        work,
        merged,
        markers,
        attributes: Attributes::default(),
    }
}

const WAYS: [Way; 3] = [Way::Descriptors, Way::Paths, Way::Classic];

fn inside(root: &Path) {
    let long = "n".repeat(200);
    let deep = format!("{long}/{long}");
    let names: [&[u8]; 9] = [
        b"plain",
        b"a,b",
        b"a:b",
        b"a\\b",
        b"a b",
        b"a+b",
        b"a#b",
        b"\xff",
        deep.as_bytes(),
    ];
    for name in names {
        for way in WAYS {
            let name = OsString::from_vec(name.to_vec());
            let place = root.join(format!("{way:?}")).join(&name);
            let request = request_in(&place);
            let (upper, merged) = (&request.upper, &request.merged);
            let checked = request.check().unwrap();
            let long = name.len() > 255;
            match checked.mount_by(way) {
                // The lower's path does not fit into an option of the new interface.
                Err(why) if long && way != Way::Classic => {
                    assert!(why.to_string().contains("File name too long"), "{why}");
                    assert_eq!(checked.mount(), Ok(Way::Classic));
                }
                result => result.unwrap_or_else(|why| panic!("{way:?} {name:?}: {why}")),
            }
            assert_eq!(std::fs::read(merged.join("low")).unwrap(), b"low");
            std::fs::write(merged.join("new"), "new").unwrap();
            assert_eq!(std::fs::read(upper.join("new")).unwrap(), b"new");
            let again = request.check().unwrap_err().to_string();
            assert!(
                again.contains("is mounted there already"),
                "{way:?}: {again}"
            );
            drop(checked);
            overstore_mount::unmount(merged).unwrap();
            assert!(!merged.join("low").try_exists().unwrap());
        }
    }
}

#[test]
fn a_directory_that_is_swapped_after_the_check_is_not_mounted() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return swapped(Path::new(&root));
    }
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let output = Command::new("unshare")
        .args(["-Urm", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_directory_that_is_swapped_after_the_check_is_not_mounted",
        ])
        .arg("--nocapture")
        .env(INSIDE, place.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn swapped(root: &Path) {
    for name in ["l", "u", "u.work", "m"] {
        for way in WAYS {
            let place = root.join(format!("{way:?}-{name}"));
            let request = request_in(&place);
            std::fs::create_dir(place.join("other")).unwrap();
            let checked = request.check().unwrap();
            std::fs::rename(place.join(name), place.join("was")).unwrap();
            std::fs::rename(place.join("other"), place.join(name)).unwrap();
            let why = checked.mount_by(way).unwrap_err();
            assert_eq!(why.exit_code(), 32);
            assert!(
                why.to_string().contains("was replaced"),
                "{way:?} {name}: {why}"
            );
            // A symlink in its place is no better.
            std::fs::rename(place.join(name), place.join("other")).unwrap();
            std::os::unix::fs::symlink("was", place.join(name)).unwrap();
            let why = checked.mount_by(way).unwrap_err();
            assert!(
                why.to_string().contains("is a symlink"),
                "{way:?} {name}: {why}"
            );
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(
                !mounts.contains(&format!("{}", place.display())),
                "{mounts}"
            );
        }
    }
}
