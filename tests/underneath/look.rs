// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests look at: names, contents, numbers and listings, each as one answer that is right
//! or says what is wrong.

use crate::common::check::{Must, kind};
use crate::promise::{Seen, expect};
use rustix::fs::{Mode, OFlags, RawDir};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// That there is a file with `content`.
pub(crate) fn file(path: &Path, content: &str) -> Seen {
    match fs::read(path) {
        Ok(got) => expect(got == content.as_bytes(), || {
            format!("{} holds \"{}\"", path.display(), got.escape_ascii())
        }),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// That there is a symbolic link to `target`.
pub(crate) fn link(path: &Path, target: &str) -> Seen {
    match fs::read_link(path) {
        Ok(got) => expect(got == Path::new(target), || format!("leads to {got:?}")),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// That there is nothing.
pub(crate) fn nothing(path: &Path) -> Seen {
    match fs::symlink_metadata(path) {
        Ok(found) => Err(format!(
            "{} is a {}",
            path.display(),
            kind(found.file_type())
        )),
        Err(error) => expect(error.raw_os_error() == Some(libc::ENOENT), || {
            format!("{}: {error}", path.display())
        }),
    }
}

/// That `path` is the object that `backing` is: number, kind and size.
pub(crate) fn same(path: &Path, backing: &Path) -> Seen {
    let want = fs::symlink_metadata(backing).must();
    let found = fs::symlink_metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let of = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.len());
    expect(of(&found) == of(&want), || {
        format!(
            "{}: number, mode, size {:?} instead of {:?}",
            path.display(),
            of(&found),
            of(&want)
        )
    })
}

/// A stream of a directory's names, by open(2) and getdents(2) alone: unlike the C library's it
/// does not ask for the attributes first.
#[derive(Debug)]
pub(crate) struct Names {
    directory: OwnedFd,
    bytes: usize,
}

impl Names {
    /// Opens a stream that reads `bytes` at a time.
    pub(crate) fn open(path: &Path, bytes: usize) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).must();
        Names { directory, bytes }
    }

    /// Returns the names of one system call, without `.` and `..`; `None` at the end.
    pub(crate) fn some(&self) -> Option<Vec<String>> {
        let mut buffer = vec![MaybeUninit::uninit(); self.bytes];
        let mut entries = RawDir::new(self.directory.as_fd(), &mut buffer);
        let mut names = Vec::new();
        let mut first = true;
        while first || !entries.is_buffer_empty() {
            first = false;
            let name = entries.next()?.must().file_name().to_owned();
            let name = name.into_string().expect("names in tests are ASCII");
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Some(names)
    }

    /// Returns all that is left.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.some()).flatten().collect()
    }

    /// Goes back to the start.
    pub(crate) fn rewind(&self) {
        rustix::fs::seek(&self.directory, rustix::fs::SeekFrom::Start(0)).must();
    }
}

/// Lists without asking for attributes.
pub(crate) fn raw_names(path: &Path) -> Vec<String> {
    Names::open(path, 32 * 1024).rest()
}

/// Lists as the C library does, with the attributes first.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).must();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("ASCII");
    entries.map(|entry| name(entry.must())).collect()
}

/// That a listing holds exactly `want`, each once.
pub(crate) fn exactly(mut got: Vec<String>, want: &BTreeSet<String>) -> Seen {
    got.sort();
    expect(got.iter().eq(want), || {
        let few: Vec<_> = want.iter().filter(|name| !got.contains(name)).collect();
        let many: Vec<_> = got.iter().filter(|name| !want.contains(*name)).collect();
        format!("{} listed; missing {few:?}, wrong {many:?}", got.len())
    })
}

/// That both ways to list show `name`, or both do not.
pub(crate) fn listed(top: &Path, name: &str, there: bool) -> Seen {
    for (how, names) in [("getdents alone", raw_names(top)), ("readdir", names(top))] {
        let times = names.iter().filter(|listed| *listed == name).count();
        expect(times == usize::from(there), || {
            format!("{name} is listed {times} times by {how}")
        })?;
    }
    Ok(())
}
