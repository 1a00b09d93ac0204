// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers of the merged view that check every answer: it is right, or it is one of the errors that
//! a lower which fails may give.
//!
//! Invariant: a name that exists is never told to be absent, and no listing is short without error.

use super::world::{MANY, big, is_failure};
use crate::common::check::kind;
use rustix::fs::Advice;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Files with what is in them: of the lower, and of the upper.
pub(crate) const LOWER_FILES: [(&str, &str); 5] = [
    ("flat", "flat"),
    ("aaa/g", "lower"),
    ("aaa/sub/x", "deep"),
    ("link/f", "lower"),
    ("mm/low", "in the lower"),
];
pub(crate) const UPPER_FILES: [(&str, &str); 2] = [("own/f", "own"), ("mm/up", "in the upper")];
/// Names that are nowhere.
const ABSENT: [&str; 3] = ["none", "aaa/none", "mm/none"];

/// What the readers have seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    stop: AtomicBool,
    pub(crate) right: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// Ends the readers when it goes, also in a test that fails.
#[derive(Debug)]
pub(crate) struct Stop<'a>(pub(crate) &'a Seen);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts an answer, which `right` judges if it is none of the failures.
    fn judge<T: std::fmt::Debug>(
        &self,
        what: &str,
        answer: io::Result<T>,
        right: impl FnOnce(&io::Result<T>) -> bool,
    ) {
        if right(&answer) {
            self.right.fetch_add(1, Ordering::Relaxed);
        } else if answer.as_ref().is_err_and(is_failure) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            let mut answer = format!("{what}: {answer:?}");
            answer.truncate(300);
            self.wrong.lock().expect("no reader panics").push(answer);
        }
    }

    /// Counts an answer that must not depend on the lower.
    fn must(&self, what: &str, answer: io::Result<bool>) {
        self.judge(
            what,
            answer.map_err(|why| io::Error::other(why.to_string())),
            |answer| matches!(answer, Ok(true)),
        );
    }

    /// Requires that no answer was wrong.
    pub(crate) fn check(&self) {
        let wrong = self.wrong.lock().expect("no reader panics");
        let shown: BTreeSet<_> = wrong.iter().take(200).collect();
        assert!(
            wrong.is_empty(),
            "{} wrong answers: {shown:#?}",
            wrong.len()
        );
    }

    /// Reads, stats and lists until it is stopped.
    pub(crate) fn read_on(&self, view: &Path, seed: usize) {
        for step in (seed..).take_while(|_| self.goes_on()) {
            let (name, want) = LOWER_FILES[step % LOWER_FILES.len()];
            self.judge(name, uncached(&view.join(name)), |read| {
                read.as_ref().is_ok_and(|read| read == want.as_bytes())
            });
            let found = fs::symlink_metadata(view.join(name));
            let found = found.map(|found| (kind(found.file_type()), found.len()));
            self.judge(name, found, |found| {
                found
                    .as_ref()
                    .is_ok_and(|found| *found == ("file", want.len() as u64))
            });
            self.judge("aaa/s", fs::read_link(view.join("aaa/s")), |target| {
                target.as_ref().is_ok_and(|target| target == Path::new("f"))
            });
            let name = ABSENT[step % ABSENT.len()];
            self.judge(name, fs::symlink_metadata(view.join(name)), |found| {
                found
                    .as_ref()
                    .is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
            });
            self.list(view, step);
        }
    }

    fn list(&self, view: &Path, step: usize) {
        let dir = ["", "aaa", "mm", "many"][step % 4];
        self.judge(dir, names(&view.join(dir)), |found| {
            found.as_ref().is_ok_and(|found| *found == expected(dir))
        });
    }

    /// Uses the upper alone until it is stopped: none of it may fail.
    pub(crate) fn write_on(&self, view: &Path) {
        for step in (0..).take_while(|_| self.goes_on()) {
            for (name, want) in UPPER_FILES {
                let read = fs::read(view.join(name));
                self.must(name, read.map(|read| read == want.as_bytes()));
            }
            let new = view.join(format!("own/new{}", step % 8));
            let text = format!("step {step}");
            let written = fs::write(&new, &text).and_then(|()| fs::read(&new));
            self.must("own/new", written.map(|read| read == text.as_bytes()));
            let listed = names(&view.join("own"));
            self.must("own", listed.map(|names| names.contains("f")));
            self.must("own/new", fs::remove_file(&new).map(|()| true));
        }
    }
}

/// Returns the names of a directory, or the first error that it gives.
pub(crate) fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir)?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().expect("ASCII")));
    names.collect()
}

fn expected(dir: &str) -> BTreeSet<String> {
    let names: &[&str] = match dir {
        "" => &[
            "flat", "aaa", "link", "mm", "many", "big", "own", "own-flat",
        ],
        "aaa" => &["f", "g", "s", "sub"],
        "mm" => &["low", "both", "up"],
        _ => {
            return (0..MANY)
                .map(|number| format!("some-name-{number:04}"))
                .collect();
        }
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Reads a file whose pages the kernel has been asked to forget.
fn uncached(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut read = Vec::new();
    file.read_to_end(&mut read)?;
    Ok(read)
}

/// What was opened before the lower failed: a file and a directory.
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    dir: File,
    content: Vec<u8>,
    at: AtomicUsize,
}

impl Held {
    pub(crate) fn open(view: &Path) -> io::Result<Held> {
        Ok(Held {
            file: File::open(view.join("big"))?,
            dir: File::open(view.join("aaa"))?,
            content: big(),
            at: AtomicUsize::new(0),
        })
    }

    /// Reads a page of the file, another one each time, not from the cache.
    fn page(&self) -> io::Result<bool> {
        let at = (self.at.fetch_add(77, Ordering::Relaxed) * 4096) % self.content.len();
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        let mut page = [0; 4096];
        self.file.read_exact_at(&mut page, at as u64)?;
        Ok(page[..] == self.content[at..at + page.len()])
    }

    /// Opens a name by the directory.
    fn inside(&self) -> io::Result<bool> {
        let (flags, mode) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        let file = rustix::fs::openat(&self.dir, "sub/x", flags, mode)?;
        Ok(io::read_to_string(File::from(file))? == "deep")
    }

    /// Uses both until it is stopped.
    pub(crate) fn use_on(&self, seen: &Seen) {
        while seen.goes_on() {
            seen.judge("the open file", self.page(), |right| {
                matches!(right, Ok(true))
            });
            seen.judge("the open directory", self.inside(), |right| {
                matches!(right, Ok(true))
            });
        }
    }

    /// Tells whether both work.
    pub(crate) fn works(&self) -> io::Result<()> {
        match self.page()? && self.inside()? {
            true => Ok(()),
            false => Err(io::Error::other("other content")),
        }
    }
}

/// Tells what of the view is not right yet.
pub(crate) fn not_right(view: &Path) -> Option<String> {
    for (name, want) in LOWER_FILES.into_iter().chain(UPPER_FILES) {
        let read = uncached(&view.join(name));
        if !read.as_ref().is_ok_and(|read| read == want.as_bytes()) {
            return Some(format!("{name}: {read:?}"));
        }
    }
    for dir in ["", "aaa", "mm", "many"] {
        let found = names(&view.join(dir));
        if !found.as_ref().is_ok_and(|found| *found == expected(dir)) {
            return Some(format!("the names of {dir:?}: {found:?}"));
        }
    }
    for name in ABSENT.map(PathBuf::from) {
        let found = fs::symlink_metadata(view.join(&name));
        if !found
            .as_ref()
            .is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
        {
            return Some(format!("{}: {found:?}", name.display()));
        }
    }
    None
}
