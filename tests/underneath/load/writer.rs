// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes names come and go, and notes it in the journal: before a change what it leads to, and when
//! it must be visible.

use super::journal::Item;
use super::world::{Class, INSIDE, Name, World, describe, make};
use crate::common::check::Must;
use crate::promise::barrier;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A small generator of numbers that look random; the same ones each time.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// The one who changes names.
pub(crate) struct Writer<'a> {
    world: &'a World,
    /// How long what is inside of an unfinished lower object may be shown as it was.
    ttl: Duration,
    dice: Dice,
    version: usize,
    /// Changes that the next barrier makes visible.
    pending: Vec<&'a Name>,
    pub(crate) changes: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(world: &'a World, ttl: Duration) -> Self {
        for layer in [&world.lower, &world.upper] {
            fs::create_dir_all(beside(layer)).must();
        }
        Writer {
            world,
            ttl,
            dice: Dice(0x9E37_79B9_7F4A_7C15),
            version: 1000,
            pending: Vec::new(),
            changes: 0,
        }
    }

    /// Makes a few changes, and waits until those behind the mount are visible.
    pub(crate) fn some_changes(&mut self) {
        for _ in 0..=self.dice.below(6) {
            let name = &self.world.names[self.dice.below(self.world.names.len())];
            // A name has one change under way at a time.
            if !self.pending.iter().any(|pending| pending.name == name.name) {
                self.change(name);
            }
        }
        barrier(&self.world.merged);
        let now = Instant::now();
        for name in self.pending.drain(..) {
            name.history.lock().expect("nobody failed").end(now);
        }
    }

    fn change(&mut self, name: &'a Name) {
        self.version += 1;
        self.changes += 1;
        match name.class {
            Class::Lower => self.change_lower(name),
            Class::Filling => self.fill(name),
            Class::Duplicate => self.duplicate(name),
            Class::Through => self.through(name),
            Class::Missing => self.changes -= 1,
        }
    }

    fn begin(&self, name: &Name, item: Option<Item>) {
        let mut history = name.history.lock().expect("nobody failed");
        history.begin(item, Instant::now());
    }

    fn is_there(name: &Name) -> bool {
        name.history.lock().expect("nobody failed").now().is_some()
    }

    /// Brings a finished object of the lower into place, or takes it away; files replace files.
    fn change_lower(&mut self, name: &'a Name) {
        let place = self.world.lower.join(&name.name);
        let old = name.history.lock().expect("nobody failed").now().cloned();
        let both_files = self.version.is_multiple_of(3) && matches!(old, Some(Item::File { .. }));
        if old.is_none() || both_files {
            let new = beside(&self.world.lower).join(&name.name);
            let item = make(&new, self.version, &name.name);
            self.begin(name, Some(item));
            fs::rename(new, place).must();
        } else {
            self.begin(name, None);
            remove(&self.world.lower, &place);
        }
        self.pending.push(name);
    }

    /// Fills a directory of the lower one file at a time; a full one goes away.
    fn fill(&mut self, name: &'a Name) {
        let place = self.world.lower.join(&name.name);
        let new = beside(&self.world.lower).join(&name.name);
        let old = name.history.lock().expect("nobody failed").now().cloned();
        let Some(Item::Dir { ino, mut inside }) = old else {
            fs::create_dir(&new).must();
            self.begin(name, Some(describe(&new)));
            fs::rename(new, place).must();
            return self.pending.push(name);
        };
        let Some(next) = INSIDE.get(inside.len()) else {
            self.begin(name, None);
            remove(&self.world.lower, &place);
            return self.pending.push(name);
        };
        fs::write(&new, format!("{} {}", name.name, self.version)).must();
        inside.insert((*next).to_owned(), describe(&new));
        self.begin(name, Some(Item::Dir { ino, inside }));
        fs::rename(new, place.join(next)).must();
        let visible = Instant::now() + self.ttl;
        name.history.lock().expect("nobody failed").end(visible);
    }

    /// Puts a duplicate into the upper, or removes it as Nix does.
    fn duplicate(&mut self, name: &'a Name) {
        let (low, place) = (
            self.world.lower.join(&name.name),
            self.world.upper.join(&name.name),
        );
        if fs::symlink_metadata(&place).is_ok() {
            self.begin(name, Some(describe(&low)));
            match self.version % 2 {
                0 => erase(&place).must(),
                _ => remove(&self.world.upper, &place),
            }
        } else {
            let new = beside(&self.world.upper).join(&name.name);
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([&low, &new])
                .status();
            assert!(copied.must().success(), "cp");
            self.begin(name, Some(describe(&new)));
            fs::rename(new, place).must();
        }
        self.pending.push(name);
    }

    /// Makes an object through the mount, or removes it: visible on return.
    fn through(&self, name: &Name) {
        let place = self.world.merged.join(&name.name);
        let aside = self.world.merged.join(format!("tmp-{}", self.version));
        if Self::is_there(name) {
            self.begin(name, None);
            fs::rename(&place, &aside).must();
            name.history
                .lock()
                .expect("nobody failed")
                .end(Instant::now());
            erase(&aside).must();
        } else {
            let item = make(&aside, self.version, &name.name);
            self.begin(name, Some(item));
            fs::rename(&aside, &place).must();
            name.history
                .lock()
                .expect("nobody failed")
                .end(Instant::now());
        }
    }
}

/// A directory on the same filesystem as `layer`, outside of it.
fn beside(layer: &Path) -> PathBuf {
    layer.with_file_name("beside")
}

fn erase(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

/// Removes a name of `layer` in one step.
fn remove(layer: &Path, path: &Path) {
    let trash = beside(layer).join("trash");
    fs::rename(path, &trash).must();
    erase(&trash).must();
}
