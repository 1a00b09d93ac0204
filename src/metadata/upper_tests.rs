// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upper database among other processes: locked for a moment and for good, upgraded, shared.
use super::tests::Scratch;
use super::*;
use crate::error::Kind;
use crate::metadata::prepare_state;
use crate::store::{ObjectName, PathInfo, Sha256, StoreDir};
use crate::wait::nap;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::time::Duration;

/// Short enough for a test, and long enough for one pause or two.
const SHORT: Duration = Duration::from_millis(20);

pub(super) fn object(number: u32) -> Registration {
    let name = ObjectName::parse(format!("{number:032}-x").as_bytes()).unwrap();
    Registration::new(PathInfo::new(name, Sha256([7; 32]), 1))
}

fn valid(upper: &Upper) -> usize {
    upper.all_valid().unwrap().len()
}

#[test]
fn another_writer_is_waited_for() {
    let scratch = Scratch::new();
    let mut upper = Upper::open(&scratch.layout()).unwrap();
    let holder = scratch.database();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let waiter = std::thread::spawn(move || {
        upper.write(|change| change.register(&[object(1)])).unwrap();
        valid(&upper)
    });
    nap(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(waiter.join().unwrap(), 1);
}

#[test]
fn patience_ends_and_nothing_is_changed() {
    let scratch = Scratch::new();
    let mut upper = Upper::open_patient(&scratch.layout(), SHORT, &Interrupt::never()).unwrap();
    let holder = scratch.database();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut called = 0;
    let error = upper.write(|change| {
        called += 1;
        change.register(&[object(1)])
    });
    let error = error.unwrap_err();
    assert_eq!((error.kind(), called), (Kind::Environment, 0));
    let text = error.to_string();
    let hint = "another process keeps it locked: wait for it, or end it";
    assert!(text.contains("locked") && text.ends_with(hint), "{text}");
    assert_eq!(valid(&upper), 0, "readers wait for nobody");
    holder.execute_batch("ROLLBACK").unwrap();
    upper.write(|change| change.register(&[object(1)])).unwrap();
    assert_eq!(valid(&upper), 1);
}

/// What another process got in the way of is done again from the start, without what was done.
#[test]
fn the_whole_change_is_done_again() {
    let scratch = Scratch::new();
    let mut upper = Upper::open(&scratch.layout()).unwrap();
    let mut called = 0;
    let done = upper.write(|change| {
        called += 1;
        assert!(change.all_valid()?.is_empty());
        change.register(&[object(called)])?;
        if called < 3 {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY_SNAPSHOT);
            return Err(change
                .rows
                .unread(&rusqlite::Error::SqliteFailure(busy, None)));
        }
        Ok(called)
    });
    assert_eq!(done, Ok(3));
    assert_eq!(upper.all_valid().unwrap(), [object(3).info.name].into());
    // Any other error ends it at once.
    let mut called = 0;
    let failed: Result<()> = upper.write(|_| {
        called += 1;
        Err(Error::environment("ask the lower", "it does not answer"))
    });
    assert!(failed.is_err());
    assert_eq!(called, 1);
}

#[test]
fn no_upgrade_begins_while_it_is_open() {
    let scratch = Scratch::new();
    let upper = Upper::open(&scratch.layout()).unwrap();
    let lock = File::open(scratch.path("db/big-lock")).unwrap();
    let upgrade = || flock(&lock, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(upgrade(), Err(Errno::WOULDBLOCK));
    drop(upper);
    assert_eq!(upgrade(), Ok(()));
    let layout = scratch.layout();
    let waiter = std::thread::spawn(move || Upper::open(&layout).map(drop));
    nap(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    std::fs::write(scratch.path("db/schema"), "11").unwrap();
    drop(lock);
    let error = waiter.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("it has schema 11"), "{error}");
}

/// Refused before the file is opened: closing it again would cost the reader its locks.
#[test]
fn a_refused_writer_takes_no_lock_away() {
    let scratch = Scratch::new();
    drop(Upper::open(&scratch.layout()).unwrap());
    let state = scratch.layout().state.unwrap();
    let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
    let reader = crate::metadata::Local::open(&state, &dir).unwrap();
    let locks = || {
        let all = std::fs::read_to_string("/proc/locks").unwrap();
        let own = format!(" {} ", std::process::id());
        let inode =
            std::os::unix::fs::MetadataExt::ino(&scratch.path("db/db.sqlite").metadata().unwrap());
        let of_file = format!(":{inode} ");
        all.lines()
            .filter(|line| line.contains("POSIX") && line.contains(&own) && line.contains(&of_file))
            .count()
    };
    let before = locks();
    assert!(before > 0, "a reader has a lock");
    for error in [
        Upper::open(&scratch.layout()).map(drop).unwrap_err(),
        prepare_state(&scratch.layout()).map(drop).unwrap_err(),
    ] {
        assert!(
            error
                .to_string()
                .contains("open for reading in this process"),
            "{error}"
        );
    }
    assert_eq!(locks(), before);
    drop(reader);
    assert!(Upper::open(&scratch.layout()).is_ok());
}

/// Two that write at once both succeed, whatever the other does.
#[test]
fn writers_take_turns() {
    let scratch = Scratch::new();
    drop(Upper::open(&scratch.layout()).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let layout = scratch.layout();
            std::thread::spawn(move || {
                let mut upper = Upper::open(&layout).unwrap();
                for number in 0..25 {
                    let one = object(100 * thread + number);
                    // Nobody else writes between what is read and what is written.
                    let before = upper.write(|change| {
                        let before = change.all_valid()?.len();
                        change.register(std::slice::from_ref(&one))?;
                        assert_eq!(change.all_valid()?.len(), before + 1);
                        Ok(before)
                    });
                    assert!(before.unwrap() < 100);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(valid(&Upper::open(&scratch.layout()).unwrap()), 100);
}
