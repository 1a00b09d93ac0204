// SPDX-License-Identifier: MIT OR Apache-2.0
//! "A listing that failed half-way is an error, not a short listing": for every way of reading one.

use super::scripted::{Op, Scripted};
use super::world;
use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mount::MountGuard;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

/// For ever.
const ALWAYS: usize = usize::MAX;
/// More names than one answer of either filesystem holds.
const NAMES: usize = 700;
/// Entries after which a listing fails: `.` and `..` count.
const PLACES: [usize; 4] = [0, 2, 100, 650];
/// The directories that are listed, as the merged view and as the lower name them: the lower's
/// alone, merged, the top.
const DIRECTORIES: [(&str, &str); 3] = [("d", "d"), ("mm", "mm"), ("", "")];

/// The filesystem and the merged view on it, which goes first: what comes last is dropped first.
fn scene(fx: &Fixture) -> (Scripted, MountGuard) {
    let mut objects = vec![
        ("d/".to_owned(), String::new()),
        ("mm/".to_owned(), String::new()),
    ];
    for number in 0..NAMES {
        for dir in ["", "d/", "mm/"] {
            objects.push((format!("{dir}n{number:04}"), "lower".to_owned()));
        }
    }
    let scripted = Scripted::mount(&fx.scratch("low"), &objects);
    fx.upper().file("mm/up", "upper");
    (
        scripted,
        world::mount(fx, &fx.scratch("low"), ",lower-ttl=50ms"),
    )
}

/// The names that a directory of the merged view has.
fn names(dir: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<_> = (0..NAMES).map(|number| format!("n{number:04}")).collect();
    match dir {
        "" => names.extend(["d".to_owned(), "mm".to_owned()]),
        "mm" => names.extend(["up".to_owned()]),
        _ => {}
    }
    names
}

/// Lists by readdir(3), as most programs do.
fn by_library(path: &Path) -> io::Result<BTreeSet<String>> {
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string();
    let entries = std::fs::read_dir(path)?;
    entries
        .map(|entry| Ok(name(entry?).expect("ASCII")))
        .collect()
}

/// Lists by getdents64(2), a little at a time.
fn by_calls(path: &Path) -> io::Result<BTreeSet<String>> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&dir, &mut buffer);
    let mut names = BTreeSet::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_str().expect("ASCII");
        if name != "." && name != ".." {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// A way of reading a listing.
type Way = fn(&Path) -> io::Result<BTreeSet<String>>;
const WAYS: [(&str, Way); 2] = [("readdir(3)", by_library), ("getdents(2)", by_calls)];

/// Calls `each` for every directory, way of reading it, place and error.
fn everywhere(
    mut each: impl FnMut((&'static str, &'static str), (&'static str, Way), usize, Errno),
) {
    for directory in DIRECTORIES {
        for way in WAYS {
            for place in PLACES {
                for failure in [Errno::IO, Errno::STALE] {
                    each(directory, way, place, failure);
                }
            }
        }
    }
}

for_each_mode!(
    /// A listing that fails once, at any place, is complete.
    once,
    |fx| {
        everywhere(|(dir, about), (way, list), place, failure| {
            let (lower, view) = scene(fx);
            let what = format!("{dir:?} after {place} by {way}: {failure}");
            lower.fail(Op::ReaddirAfter(place), about, failure, 1);
            let found = list(&view.path(dir)).unwrap_or_else(|why| panic!("{what}: {why}"));
            assert!(lower.all_failed(), "{what}: was not asked");
            assert!(found == names(dir), "{what}: {} names", found.len());
        });
    }
);

for_each_mode!(
    /// A listing that fails always, at any place, is an error, and complete once it does not.
    always,
    |fx| {
        everywhere(|(dir, about), (way, list), place, failure| {
            let (lower, view) = scene(fx);
            let what = format!("{dir:?} after {place} by {way}: {failure}");
            lower.fail(Op::ReaddirAfter(place), about, failure, ALWAYS);
            for _ in 0..2 {
                let found = list(&view.path(dir)).map(|names| names.len());
                let errno = found.as_ref().err().and_then(io::Error::raw_os_error);
                assert_eq!(errno, Some(failure.raw_os_error()), "{what}: {found:?}");
            }
            lower.heal();
            assert_eq!(list(&view.path(dir)).must(), names(dir), "{what}: afterwards");
        });
    }
);

for_each_mode!(
    /// A stream that was read half-way when the lower began to fail ends with an error or with
    /// every name, and so does the next one.
    half_way,
    |fx| {
        for (dir, about) in DIRECTORIES {
            let (lower, view) = scene(fx);
            let mut entries = std::fs::read_dir(view.path(dir)).must();
            let mut found = BTreeSet::new();
            for entry in entries.by_ref().take(20) {
                found.insert(entry.must().file_name().into_string().expect("ASCII"));
            }
            for place in 0..NAMES + 5 {
                lower.fail(Op::ReaddirAfter(place), about, Errno::IO, ALWAYS);
            }
            lower.fail(Op::Opendir, about, Errno::IO, ALWAYS);
            let rest: io::Result<Vec<_>> = entries.collect();
            if let Ok(rest) = rest {
                let rest = rest.into_iter().map(|entry| entry.file_name());
                found.extend(rest.map(|name| name.into_string().expect("ASCII")));
                assert!(found == names(dir), "{dir:?}: {} names", found.len());
            }
            lower.heal();
            assert_eq!(by_library(&view.path(dir)).must(), names(dir), "{dir:?}: then");
        }
    }
);
