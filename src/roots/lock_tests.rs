// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lock files and temporary directories in the store, among several who want them.

use super::shared_tests::{OBJECT, OTHER, World, object, until};
use super::*;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn both() -> BTreeSet<ObjectName> {
    [OBJECT, OTHER].map(object).into()
}

#[test]
fn locks_exclude_each_other_and_leave_nothing() {
    let world = World::new();
    let never = Interrupt::never();
    let locks = PathLocks::take(&world.state, &both(), &never).unwrap();
    let path = world.state.join(format!("{OBJECT}.lock"));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let one = [object(OBJECT)].into();
    assert!(PathLocks::try_take(&world.state, &one).unwrap().is_none());
    assert!(path.try_exists().unwrap());
    drop(locks);
    assert_eq!(fs::read_dir(&world.state).unwrap().count(), 0);
    assert!(PathLocks::try_take(&world.state, &one).unwrap().is_some());
}

#[test]
fn who_fails_to_take_all_keeps_none() {
    let world = World::new();
    // The second in the order of names.
    let second = [object(OBJECT)].into();
    let _held = PathLocks::try_take(&world.state, &second).unwrap().unwrap();
    assert!(
        PathLocks::try_take(&world.state, &both())
            .unwrap()
            .is_none()
    );
    let first = [object(OTHER)].into();
    assert!(PathLocks::try_take(&world.state, &first).unwrap().is_some());
}

/// The file that a waiter has open is removed by the one it waits for, by Nix's protocol.
#[test]
fn a_waiter_does_not_take_a_removed_file_for_the_lock() {
    let world = World::new();
    let path = world.state.join(format!("{OBJECT}.lock"));
    for marked in [true, false] {
        let mut options = OpenOptions::new();
        let mut nix = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .unwrap();
        flock(&nix, FlockOperation::NonBlockingLockExclusive).unwrap();
        thread::scope(|scope| {
            let one = [object(OBJECT)].into();
            let state = &world.state;
            let waiting = scope.spawn(move || {
                let locks = PathLocks::take(state, &one, &Interrupt::never()).unwrap();
                let there = state.join(format!("{OBJECT}.lock")).try_exists().unwrap();
                drop(locks);
                there
            });
            fs::remove_file(&path).unwrap();
            if marked {
                nix.write_all(b"d").unwrap();
            }
            drop(nix);
            assert!(
                waiting.join().unwrap(),
                "locked a file that nobody else can find"
            );
        });
    }
}

#[test]
fn a_file_that_says_it_is_gone_is_no_lock() {
    let world = World::new();
    let path = world.state.join(format!("{OBJECT}.lock"));
    fs::write(&path, "d").unwrap();
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let one = [object(OBJECT)].into();
    let error = PathLocks::take(&world.state, &one, &Interrupt::when(flag)).unwrap_err();
    assert!(error.to_string().contains("never stays"), "{error}");
}

#[test]
fn a_new_lock_of_somebody_else_stays() {
    let world = World::new();
    let one = [object(OBJECT)].into();
    let path = world.state.join(format!("{OBJECT}.lock"));
    let locks = PathLocks::try_take(&world.state, &one).unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    drop(locks);
    assert!(path.try_exists().unwrap());
}

#[test]
fn many_take_turns() {
    let world = World::new();
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let locks = PathLocks::take(&world.state, &both(), &Interrupt::never());
                    let locks = locks.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(locks);
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&world.state).unwrap().count(), 0);
}

#[test]
fn temporary_directories_are_locked_and_go_with_their_content() {
    let world = World::new();
    let first = TmpDir::create(&world.state).unwrap();
    let second = TmpDir::create(&world.state).unwrap();
    assert_ne!(first.path(), second.path());
    let name = first
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        name.starts_with(&format!("tmp-{}-", std::process::id())),
        "{name}"
    );
    let mode = fs::metadata(first.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(lock_abandoned(first.path()).unwrap().is_none());
    let inner = first.path().join("x/y");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("f"), "").unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let path = first.path().to_owned();
    drop(first);
    assert!(!path.try_exists().unwrap());
    assert!(lock_abandoned(&path).unwrap().is_none());
    fs::create_dir(&path).unwrap();
    assert!(lock_abandoned(&path).unwrap().is_some());
}

#[test]
fn a_directory_that_is_taken_is_passed_over() {
    let world = World::new();
    let first = TmpDir::create(&world.state).unwrap();
    let prefix = format!("tmp-{}-", std::process::id());
    let name = first.path().file_name().unwrap().to_str().unwrap();
    let n: u32 = name.strip_prefix(&prefix).unwrap().parse().unwrap();
    for taken in n + 1..n + 40 {
        fs::create_dir(world.state.join(format!("{prefix}{taken}"))).unwrap();
    }
    let second = TmpDir::create(&world.state).unwrap();
    until(|| second.path().try_exists().unwrap());
    assert!(lock_abandoned(second.path()).unwrap().is_none());
}
