// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that come and go under load, and what each class of them stands for.

use super::journal::{History, Item};
use super::judge::{Answer, Question, judge, judge_top};
use crate::common::check::{Must, stat};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Where the changes of a name are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// In the lower: whole objects, of changing kinds.
    Lower,
    /// In the lower: directories that are filled while they are looked at.
    Filling,
    /// The lower has it all the time; a duplicate in the upper comes and goes behind the mount.
    Duplicate,
    /// In the upper, through the mount.
    Through,
    /// Nobody ever makes it.
    Missing,
}

/// Names of each class.
pub(crate) const EACH: usize = 12;
const CLASSES: [Class; 5] = [
    Class::Lower,
    Class::Filling,
    Class::Duplicate,
    Class::Through,
    Class::Missing,
];
/// What may be inside of an object.
pub(crate) const INSIDE: [&str; 3] = ["c0", "c1", "c2"];

/// One name.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) class: Class,
    pub(crate) history: Mutex<History>,
}

/// Everything that readers and writers share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) merged: PathBuf,
    pub(crate) lower: PathBuf,
    pub(crate) upper: PathBuf,
    pub(crate) names: Vec<Name>,
}

impl World {
    /// Makes the names; duplicates are there from the start, in the lower.
    pub(crate) fn new(merged: PathBuf, lower: PathBuf, upper: PathBuf) -> Self {
        let mut names = Vec::new();
        for class in CLASSES {
            for number in 0..EACH {
                let name = format!("{class:?}{number}");
                let first =
                    (class == Class::Duplicate).then(|| make(&lower.join(&name), number, &name));
                let history = Mutex::new(History::new(first));
                names.push(Name {
                    name,
                    class,
                    history,
                });
            }
        }
        World {
            merged,
            lower,
            upper,
            names,
        }
    }

    /// Requires that an answer was true.
    pub(crate) fn check(
        &self,
        name: &Name,
        times: (Instant, Instant),
        inside: Option<&str>,
        question: Question,
        answer: &Answer,
    ) {
        let history = name.history.lock().expect("nobody failed");
        if let Err(why) = judge(&history, times, inside, question, answer) {
            let ago = |time: Instant| time.elapsed().as_micros();
            panic!(
                "{question:?} of {} {inside:?} said {answer:?} ({}..{} us ago): {why}; {history:?}",
                name.name,
                ago(times.0),
                ago(times.1)
            );
        }
    }

    /// Requires that a listing of the top was true.
    pub(crate) fn check_top(&self, (t0, t1): (Instant, Instant), listed: &[String]) {
        let known = self.names.iter().map(|name| {
            let history = name.history.lock().expect("nobody failed");
            let states = history.possible(t0, t1);
            let may = states.iter().any(Option::is_some);
            (name.name.as_str(), may, states.iter().all(Option::is_some))
        });
        if let Err(why) = judge_top(known, listed) {
            panic!("the listing of the top: {why}: {listed:?}");
        }
    }
}

/// Makes the object `path` of a kind that `version` tells, whose parts say `version`.
pub(crate) fn make(path: &Path, version: usize, label: &str) -> Item {
    let words = format!("{label} {version} ").repeat(1 + version % 7);
    match version % 3 {
        0 => {
            fs::write(path, &words).must();
        }
        1 => {
            std::os::unix::fs::symlink(format!("nowhere/{label}/{version}"), path).must();
        }
        _ => {
            fs::create_dir(path).must();
            for name in &INSIDE[..1 + version % INSIDE.len()] {
                fs::write(path.join(name), &words).must();
            }
        }
    }
    describe(path)
}

/// Tells what there is at `path`.
pub(crate) fn describe(path: &Path) -> Item {
    let found = stat(path);
    let ino = found.ino();
    if found.is_dir() {
        let entries = fs::read_dir(path).must().map(Must::must);
        let inside: BTreeMap<_, _> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().expect("ASCII");
                (name, describe(&entry.path()))
            })
            .collect();
        return Item::Dir { ino, inside };
    }
    if found.is_symlink() {
        let target = fs::read_link(path).must();
        let target = target.to_str().expect("ASCII").to_owned();
        return Item::Link { ino, target };
    }
    let content = fs::read_to_string(path).must();
    Item::File { ino, content }
}
