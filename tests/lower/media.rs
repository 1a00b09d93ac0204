// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lower stores where nobody can write: a read-only mount of a store that lives on, and media that
//! cannot change at all, whatever state the database was left in.

use crate::skip::skip;
use crate::{check, layout, manifest, state};
use overstore::metadata::{Source, lower, prepare_state};
use rusqlite::Connection;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A store, and a place where it is mounted read-only.
struct Place(TempDir);

impl Place {
    fn new() -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can mount");
            return None;
        }
        let place = Place(TempDir::new().unwrap());
        std::fs::create_dir(place.path("seen")).unwrap();
        let mut made = layout("/nowhere");
        made.state = Some(place.path("low/nix/var/nix"));
        prepare_state(&made).unwrap();
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn writer(&self) -> Connection {
        Connection::open(self.path("low/nix/var/nix/db/db.sqlite")).unwrap()
    }

    /// Mounts by `script`, in which `$low` is the store and `$seen` the place.
    fn mount(&self, script: &str) {
        let output = Command::new("sh")
            .args(["-ec", script])
            .env("low", self.path("low"))
            .env("seen", self.path("seen"))
            .env("image", self.path("image"))
            .output()
            .unwrap();
        let said = check::text(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
    }

    fn source(&self) -> Result<Box<dyn Source>, String> {
        let lower = self.path("seen").display().to_string();
        let opened = lower::open(&layout(&lower)).map_err(|why| why.to_string())?;
        Ok(opened.unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .args(["-l", "--"])
                .arg(self.path("seen"))
                .output(),
        );
    }
}

fn insert(database: &Connection, digit: u8) {
    let hash = digit.to_string().repeat(32);
    let row = format!(
        "INSERT INTO ValidPaths (path, hash, registrationTime) \
         VALUES ('/nix/store/{hash}-x', 'sha256:{}', 7)",
        "0".repeat(64)
    );
    database.execute_batch(&row).unwrap();
}

fn count(source: &dyn Source) -> usize {
    let all = source.all_valid().unwrap();
    for name in &all {
        assert!(source.path_info(name).unwrap().is_some());
    }
    assert_eq!(source.finish(), Ok(()));
    all.len()
}

/// What its owner has committed is seen through the read-only mount, from the log too.
#[test]
fn a_read_only_mount_of_a_store_that_lives_on() {
    let Some(place) = Place::new() else {
        return;
    };
    place.mount("mount --bind $low $seen; mount -o remount,bind,ro $seen");
    assert_eq!(count(place.source().unwrap().as_ref()), 0);
    let writer = place.writer();
    insert(&writer, 1);
    let before = state(&place.path("low"));
    let held = place.source().unwrap();
    assert_eq!(count(held.as_ref()), 1);
    let mut changed = manifest::differences(&before, &state(&place.path("low")));
    // Within one process the index in memory is the writer's and the reader's.
    changed.retain(|line| !line.contains("-shm: "));
    assert!(changed.is_empty(), "{changed:#?}");
    insert(&writer, 2);
    assert_eq!(count(held.as_ref()), 1);
    assert_eq!(count(place.source().unwrap().as_ref()), 2);
}

/// On media that cannot change, the rows are those of the database and its log.
#[test]
fn media_that_cannot_change() {
    for (left, rows) in [
        ("rm -f $low/nix/var/nix/db/db.sqlite-*", 1),
        ("truncate -s 0 $low/nix/var/nix/db/db.sqlite-wal", 1),
        ("rm -f $low/nix/var/nix/db/db.sqlite-wal", 1),
        ("true", 2),
        ("rm -f $low/nix/var/nix/db/db.sqlite-shm", 2),
    ] {
        let Some(place) = Place::new() else {
            return;
        };
        let writer = place.writer();
        insert(&writer, 1);
        writer
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
            .unwrap();
        insert(&writer, 2);
        // As the files are while somebody writes, or after he was killed.
        place.mount("cp -a $low ${low}2");
        drop(writer);
        place.mount(&format!("low=${{low}}2; {left}"));
        if !squashed(&place) {
            return;
        }
        match place.source() {
            Ok(source) => assert_eq!(count(source.as_ref()), rows, "{left}"),
            Err(why) => panic!("{left}: {why}"),
        }
    }
}

/// Makes an image of the copy, and mounts it.
fn squashed(place: &Place) -> bool {
    if Command::new("mksquashfs").arg("-version").output().is_err() {
        skip("no mksquashfs");
        return false;
    }
    place.mount(
        "mksquashfs ${low}2 $image -quiet -no-progress >$image.log; mount -o loop,ro $image $seen",
    );
    true
}
