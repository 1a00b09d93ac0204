// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a driver ends, and what is said of one that is dead or hangs.

use crate::driver::{Driver, is_mounted};
use crate::place::{Place, Who, assert_ok, can, stderr, stdout};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_signal_unmounts_and_ends_the_driver() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    driver.terminate();
    assert!(driver.0.wait().unwrap().success());
    assert!(!is_mounted(&place));
}

#[test]
fn a_signal_leaves_the_mount_of_a_successor_alone() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut first = Driver::start(&place);
    let user = fs::File::open(place.path("m")).unwrap();
    assert_ok(
        &place
            .overstore()
            .args(["umount", "-l"])
            .arg(place.path("m"))
            .output()
            .unwrap(),
    );
    let _second = Driver::start(&place);
    first.terminate();
    // It goes on serving the user it still has.
    assert_eq!(rustix::fs::Dir::read_from(&user).unwrap().count(), 3);
    drop(user);
    assert!(first.0.wait().unwrap().success());
    assert!(is_mounted(&place));
}

#[test]
fn a_busy_mount_is_refused_and_detached_on_demand() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    let user = fs::File::open(place.path("m")).unwrap();
    let umount = |lazy: &[&str]| {
        place
            .overstore()
            .arg("umount")
            .args(lazy)
            .arg(place.path("m"))
            .output()
            .unwrap()
    };
    let refused = umount(&[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("--lazy"), "{}", stderr(&refused));
    assert_ok(&umount(&["--lazy"]));
    assert!(!is_mounted(&place));
    drop(user);
    assert!(driver.0.wait().unwrap().success());
}

#[test]
fn a_dead_mount_is_shown_as_such_and_can_be_unmounted() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    let merged = place.path("m");
    let overstore = |words: &[&str]| place.overstore().args(words).arg(&merged).output().unwrap();
    // A view that was listed opens without asking the driver: it is the control channel that tells.
    assert_ok(&overstore(&["sync"]));
    assert_eq!(std::fs::read_dir(&merged).unwrap().count(), 1);
    driver.0.kill().unwrap();
    driver.0.wait().unwrap();
    let sync = overstore(&["sync"]);
    assert_eq!(sync.status.code(), Some(3), "{}", stderr(&sync));
    let told = stderr(&sync).contains("driver is gone; remove it: overstore umount");
    assert!(told, "{}", stderr(&sync));
    let status = overstore(&["status", "--json"]);
    assert_ok(&status);
    let dead = stdout(&status).contains(r#""state": "dead""#);
    assert!(dead, "{}", stdout(&status));
    let again = overstore(&["mount", "-o", &place.layers()]);
    assert_eq!(again.status.code(), Some(3));
    for part in ["driver is gone", "overstore umount"] {
        assert!(stderr(&again).contains(part), "{}", stderr(&again));
    }
    assert_ok(&overstore(&["umount"]));
    assert!(!is_mounted(&place));
}

#[test]
fn a_hung_driver_does_not_hang_status() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let driver = Driver::start(&place);
    driver.stop();
    let started = Instant::now();
    let status = place
        .overstore()
        .args(["status", "--json"])
        .arg(place.path("m"))
        .output()
        .unwrap();
    assert!(
        stdout(&status).contains(r#""state": "hung""#),
        "{}",
        stdout(&status)
    );
    assert!(started.elapsed() < Duration::from_secs(8));
}

/// What would have to wait for a hung driver says so and how to end that.
#[test]
fn a_hung_driver_is_given_up() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let driver = Driver::start(&place);
    driver.stop();
    let output = place
        .shell(
            r#"
            "$O" mount -o "$LAYERS" "$M" 2>&1 | grep -o 'already mounted'
            "$O" mount "local-overlay://?real=$M&lower-store=/&upper-layer=$PWD/u&state=$PWD" 2>&1 |
                grep -o 'already mounted'
            "$O" run -o "$LAYERS" -- echo ran
            "$O" sync "$M" 2>&1 | sed "s|$PWD|D|g"
        "#,
        )
        .output()
        .unwrap();
    let expected = "already mounted\nalready mounted\nran\n\
        error: wait for the driver of D/m: no answer for 30 seconds; \
        overstore umount --force D/m gives it up\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}
