// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small assertions about system calls, each of which names the caller when it fails.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The success that a test relies on.
pub(crate) trait Must<T> {
    /// Returns the value, or fails the test at the caller's line.
    fn must(self) -> T;
}

impl<T, E: Into<io::Error>> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{}", error.into()),
        }
    }
}

/// Returns what a program printed, for people to read and for words to be found in.
#[expect(clippy::disallowed_methods, reason = "messages of programs, not names")]
pub(crate) fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim_end().to_owned()
}

/// Requires that `result` is the failure `want`.
#[track_caller]
pub(crate) fn fails<T, E: Into<io::Error>>(want: Errno, what: &str, result: Result<T, E>) {
    match result {
        Ok(_) => panic!("{what}: succeeded, {want} was expected"),
        Err(error) => {
            let error = error.into();
            let got = error.raw_os_error();
            assert!(
                got == Some(want.raw_os_error()),
                "{what}: failed with \"{error}\", {want} was expected"
            );
        }
    }
}

/// Requires that `path` is a file with `content`.
#[track_caller]
pub(crate) fn reads(path: &Path, content: &str) {
    match fs::read(path) {
        Ok(bytes) => assert!(
            bytes == content.as_bytes(),
            "{}: holds \"{}\" instead of \"{content}\"",
            path.display(),
            bytes.escape_ascii()
        ),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Requires that there is nothing at `path`.
#[track_caller]
pub(crate) fn absent(path: &Path) {
    fails(
        Errno::NOENT,
        &format!("lstat {}", path.display()),
        fs::symlink_metadata(path),
    );
}

/// Names the kind of an object in one word.
pub(crate) fn kind(file_type: fs::FileType) -> &'static str {
    match () {
        () if file_type.is_dir() => "dir",
        () if file_type.is_file() => "file",
        () if file_type.is_symlink() => "symlink",
        () if file_type.is_fifo() => "fifo",
        () if file_type.is_socket() => "socket",
        () if file_type.is_char_device() => "char",
        () => "block",
    }
}

/// Returns the kind of the object at `path`, or `None` if there is none.
#[track_caller]
pub(crate) fn kind_of(path: &Path) -> Option<&'static str> {
    match fs::symlink_metadata(path) {
        Ok(found) => Some(kind(found.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("lstat {}: {error}", path.display()),
    }
}

/// Returns the names of a directory with the kind that the listing itself tells; no name twice.
#[track_caller]
pub(crate) fn listing(path: &Path) -> BTreeMap<OsString, &'static str> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).must() {
        let entry = entry.must();
        let before = found.insert(entry.file_name(), kind(entry.file_type().must()));
        assert!(before.is_none(), "{:?} is listed twice", entry.file_name());
    }
    found
}

/// Requires that a directory lists exactly `names`.
#[track_caller]
pub(crate) fn lists(path: &Path, names: &[&str]) {
    let mut want: Vec<_> = names.iter().map(OsString::from).collect();
    want.sort();
    let found: Vec<_> = listing(path).into_keys().collect();
    assert_eq!(found, want, "the listing of {}", path.display());
}

/// Requires that every listed name of the tree at `path` tells the inode number that lstat tells.
#[track_caller]
pub(crate) fn listed_numbers_are_true(path: &Path) {
    for entry in fs::read_dir(path).must() {
        let entry = entry.must();
        let found = fs::symlink_metadata(entry.path()).must();
        assert_eq!(entry.ino(), found.ino(), "d_ino of {:?}", entry.path());
        if found.is_dir() {
            listed_numbers_are_true(&entry.path());
        }
    }
}

/// Returns the metadata of `path` itself.
#[track_caller]
pub(crate) fn stat(path: &Path) -> fs::Metadata {
    match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => panic!("lstat {}: {error}", path.display()),
    }
}

/// Returns the permission bits of `path`.
#[track_caller]
pub(crate) fn mode_of(path: &Path) -> u32 {
    stat(path).mode() & 0o7777
}

/// Writes `content` over the start of an existing file, without O_TRUNC.
pub(crate) fn overwrite(path: &Path, content: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, content.as_bytes())
}

/// Sets the modification time of `path` itself, in seconds since 1970.
pub(crate) fn set_mtime(path: &Path, seconds: i64) -> io::Result<()> {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(0, rustix::fs::UTIME_OMIT),
        last_modification: time(seconds, 0),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Polls until `done` or until `limit` has passed; tells which.
pub(crate) fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Returns the extended attribute names of `path` itself.
pub(crate) fn attributes(path: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let names = names[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names.map(|name| name.escape_ascii().to_string()).collect())
}

/// Returns the value of an extended attribute of `path` itself.
pub(crate) fn attribute(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(path, name, &mut value)?;
    value.truncate(length);
    Ok(value)
}

/// Tells whether `name` ends with `tail`, as bytes.
pub(crate) fn ends_with(name: &OsString, tail: &[u8]) -> bool {
    name.as_bytes().ends_with(tail)
}
