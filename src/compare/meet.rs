// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is compared of one object, and what of it is a difference.
//!
//! Invariant: an error on one side is a difference; the same error on both is equal, and counted.

use super::content;
use super::expected::Case;
use super::layers::Layers;
use super::numbers::{Id, Numbers};
use super::probe::{self, SUCCEEDS};
use super::report::{Difference, Findings, What};
use super::side::{
    At, Both, DIRECTORY, Got, Listed, Sides, Value, errno_name, kind_of, kind_word, list, presence,
};
use super::walk::{Meeting, Name, Visit, merge, walk};
use super::xattrs::{self, Xattrs};
use super::{Progress, unreadable};
use crate::error::Result;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// Objects of each kind below one name at the top that the probing set is put to, besides that
/// name itself.
const SAMPLE: u32 = 4;

/// What a comparison of objects needs to know.
pub(super) struct Comparer<'a> {
    pub(super) sides: &'a Sides,
    /// `None` where the trees are not views of layers: nothing is expected then.
    pub(super) layers: Option<&'a Layers>,
    /// Takes note of inode numbers.
    pub(super) numbers: Option<&'a Numbers>,
    pub(super) strict: bool,
    pub(super) progress: &'a Progress,
}

/// Returns the numbers by which two sides know one object. The kernel's number of a directory
/// that merges does not last.
pub(super) fn ids(fuse: &Stat, kernel: &Stat) -> (Id, Option<Id>) {
    let lasting = kind_of(kernel) != FileType::Directory;
    (
        (fuse.st_dev, fuse.st_ino),
        lasting.then_some((kernel.st_dev, kernel.st_ino)),
    )
}

impl Comparer<'_> {
    /// Compares the top directories themselves and returns the names in them.
    pub(super) fn top(&self) -> Result<(Vec<Name>, Findings)> {
        let at = self.sides.tops.as_ref().map(|top| At::new(top, b"."));
        let read = |at: At<'_>, side: &str| {
            at.open(DIRECTORY)
                .and_then(list)
                .map_err(|why| unreadable(Path::new(side), why))
        };
        let names = merge(Both {
            fuse: read(at.fuse, "the top directory of the FUSE view")?,
            kernel: read(at.kernel, "the top directory of the kernel's view")?,
        });
        let mut look = self.look();
        look.meet(&Meeting {
            path: b"",
            depth: 0,
            at,
            listed: None,
        });
        Ok((names, look.findings))
    }

    /// Compares one name at the top, and everything below.
    pub(super) fn object(&self, name: &Name) -> Findings {
        let mut look = self.look();
        walk(self.sides, &name.name, Some(name.listed), &mut look);
        look.findings
    }

    fn look(&self) -> Look<'_> {
        Look {
            comparer: self,
            findings: Findings::default(),
            probed: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }
}

/// One walk.
struct Look<'a> {
    comparer: &'a Comparer<'a>,
    findings: Findings,
    /// How many objects of a kind were probed.
    probed: BTreeMap<&'static str, u32>,
    buffer: Vec<u8>,
}

impl Visit for Look<'_> {
    fn meet(&mut self, meeting: &Meeting<'_>) -> bool {
        self.findings.objects += 1;
        Progress::add(&self.comparer.progress.objects, 1);
        let stats = meeting.at.map(At::stat);
        if let Some(listed) = meeting.listed {
            self.listed(meeting.path, listed, &stats);
        }
        match (&stats.fuse, &stats.kernel) {
            (Ok(fuse), Ok(kernel)) => self.object(meeting, fuse, kernel),
            (Err(fuse), Err(kernel)) if fuse == kernel => {
                self.findings.refused("look at", *fuse, meeting.path);
                false
            }
            _ => {
                let values = stats.as_ref().map(presence);
                self.differs(meeting.path, What::Presence, None, values);
                false
            }
        }
    }

    fn unlisted(&mut self, path: &[u8], errors: Both<Option<Errno>>) {
        match (errors.fuse, errors.kernel) {
            (Some(fuse), Some(kernel)) if fuse == kernel => {
                self.findings.refused("list", fuse, path);
            }
            _ => {
                let values = errors.map(|errno| errno.map_or(Value::is("listed"), Value::Failed));
                self.differs(path, What::Listing, None, values);
            }
        }
    }
}

impl Look<'_> {
    fn differs(&mut self, path: &[u8], what: What, detail: Option<&str>, values: Both<Value>) {
        let row = self.comparer.layers.and_then(|layers| {
            Case {
                layers,
                path,
                what,
                detail,
                fuse: &values.fuse,
                kernel: &values.kernel,
            }
            .row()
        });
        match row {
            Some(row) if !self.comparer.strict => self.findings.expected(row, path),
            row => self.findings.push(Difference {
                path: path.to_vec(),
                what,
                detail: detail.map(str::to_owned),
                fuse: values.fuse,
                kernel: values.kernel,
                row: row.map(|row| &super::ROWS[row]),
            }),
        }
    }

    fn value<T: PartialEq>(
        &mut self,
        path: &[u8],
        what: What,
        values: Both<T>,
        show: impl Fn(T) -> Value,
    ) {
        if values.fuse != values.kernel {
            self.differs(path, what, None, values.map(show));
        }
    }

    /// Compares what listings tell with each other and with the objects.
    fn listed(&mut self, path: &[u8], listed: Both<Option<Listed>>, stats: &Both<Got<Stat>>) {
        let there = listed.map(|listed| listed.is_some());
        let same = stats.fuse.is_ok() == stats.kernel.is_ok();
        if same {
            let shown = |there| Value::is(if there { "listed" } else { "not listed" });
            self.value(path, What::Listing, there, shown);
        }
        if there.fuse && there.kernel {
            let times = listed.map(|listed| listed.map_or(0, |listed| listed.times));
            self.value(path, What::ListedTimes, times, Value::is);
        }
        let kinds = Both {
            fuse: listed_kind(listed.fuse, &stats.fuse),
            kernel: listed_kind(listed.kernel, &stats.kernel),
        };
        if kinds.fuse.1 || kinds.kernel.1 {
            self.differs(path, What::ListedType, None, kinds.map(|(shown, _)| shown));
        }
        if let (Some(listed), Ok(stat)) = (listed.fuse, &stats.fuse)
            && listed.ino != stat.st_ino
        {
            let values = Both {
                fuse: Value::is(format!("{}, the object's is {}", listed.ino, stat.st_ino)),
                kernel: Value::is("not compared"),
            };
            self.differs(path, What::ListedInode, None, values);
        }
    }

    /// Compares two objects; tells whether they are directories.
    fn object(&mut self, meeting: &Meeting<'_>, fuse: &Stat, kernel: &Stat) -> bool {
        let (path, stats) = (meeting.path, Both { fuse, kernel });
        let kinds = stats.map(kind_of);
        self.value(path, What::Type, kinds, |kind| Value::is(kind_word(kind)));
        if kinds.fuse != kinds.kernel {
            return false;
        }
        self.attributes(path, stats);
        if kinds.fuse != FileType::Directory {
            self.single(path, stats);
        }
        if let Some(numbers) = self.comparer.numbers {
            let (fuse_id, kernel_id) = ids(fuse, kernel);
            let linked = fuse.st_nlink > 1 || kernel.st_nlink > 1;
            numbers.met(fuse_id, kernel_id, linked);
        }
        self.xattrs(path, meeting.at.map(xattrs::all));
        match kinds.fuse {
            FileType::Symlink => self.target(path, meeting.at),
            FileType::RegularFile => self.content(path, meeting.at),
            _ => {}
        }
        self.probe(meeting, kinds.fuse);
        kinds.fuse == FileType::Directory
    }

    /// Compares what every object has.
    fn attributes(&mut self, path: &[u8], stats: Both<&Stat>) {
        let mode = stats.map(|stat| stat.st_mode & 0o7777);
        self.value(path, What::Mode, mode, |mode| {
            Value::is(format!("{mode:04o}"))
        });
        let owner = stats.map(|stat| (stat.st_uid, stat.st_gid));
        self.value(path, What::Owner, owner, |(uid, gid)| {
            Value::is(format!("{uid}:{gid}"))
        });
        let mtime = stats.map(|stat| (stat.st_mtime, stat.st_mtime_nsec));
        self.value(path, What::Mtime, mtime, |(seconds, nanoseconds)| {
            Value::is(format!("{seconds}.{nanoseconds:09}"))
        });
    }

    /// Compares what is the filesystem's own affair for directories.
    fn single(&mut self, path: &[u8], stats: Both<&Stat>) {
        let plain = |number| Value::is(number);
        self.value(path, What::Size, stats.map(|stat| stat.st_size), |size| {
            Value::is(size)
        });
        self.value(path, What::Links, stats.map(|stat| stat.st_nlink), plain);
        let device = stats.map(|stat| stat.st_rdev);
        self.value(path, What::Device, device, |device| {
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            Value::is(format!("{major}/{minor}"))
        });
        if self
            .comparer
            .layers
            .is_some_and(|layers| layers.one_filesystem)
        {
            self.value(path, What::Inode, stats.map(|stat| stat.st_ino), plain);
        }
    }

    fn xattrs(&mut self, path: &[u8], got: Both<Got<Xattrs>>) {
        let (fuse, kernel) = match (&got.fuse, &got.kernel) {
            (Ok(fuse), Ok(kernel)) => (fuse, kernel),
            (Err(fuse), Err(kernel)) if fuse == kernel => {
                return self.findings.refused("list attributes", *fuse, path);
            }
            _ => {
                let names = |got: &Got<Xattrs>| match got {
                    Ok(found) => Value::is(format!("{} attributes", found.len())),
                    Err(errno) => Value::Failed(*errno),
                };
                return self.differs(path, What::Xattrs, None, got.as_ref().map(names));
            }
        };
        let only_kernel = kernel.keys().filter(|name| !fuse.contains_key(*name));
        for name in fuse.keys().chain(only_kernel) {
            let values = got.as_ref().map(|got| got.as_ref().ok()?.get(name));
            if values.fuse != values.kernel {
                let shown = |value: Option<&Got<Vec<u8>>>| match value {
                    None => Value::Absent,
                    Some(Ok(value)) => Value::is(format!("\"{}\"", value.escape_ascii())),
                    Some(Err(errno)) => Value::Failed(*errno),
                };
                let detail = name.escape_ascii().to_string();
                self.differs(path, What::Xattr, Some(&detail), values.map(shown));
            }
        }
    }

    fn target(&mut self, path: &[u8], at: Both<At<'_>>) {
        let show = |target: Vec<u8>| format!("\"{}\"", target.escape_ascii());
        let got = at.map(|at| at.target().map(show));
        self.answers(path, What::Target, "readlink", &got);
    }

    fn content(&mut self, path: &[u8], at: Both<At<'_>>) {
        let got = content::read(at, &mut self.buffer);
        if let Ok(content) = &got.fuse {
            self.findings.files += 1;
            self.findings.bytes += content.bytes;
            Progress::add(&self.comparer.progress.bytes, content.bytes);
        }
        self.answers(path, What::Content, "read", &got);
    }

    /// Compares two answers, of which either may be an error.
    fn answers<T: PartialEq + std::fmt::Display>(
        &mut self,
        path: &[u8],
        what: What,
        operation: &'static str,
        got: &Both<Got<T>>,
    ) {
        match (&got.fuse, &got.kernel) {
            (Err(fuse), Err(kernel)) if fuse == kernel => {
                self.findings.refused(operation, *fuse, path);
            }
            (fuse, kernel) if fuse == kernel => {}
            _ => self.differs(path, what, None, got.as_ref().map(Value::of)),
        }
    }

    /// Puts the probing set to the top, to each name there, and to a sample of what is below.
    fn probe(&mut self, meeting: &Meeting<'_>, kind: FileType) {
        if meeting.depth > 0 {
            let count = self.probed.entry(kind_word(kind)).or_default();
            *count += 1;
            if *count > SAMPLE {
                return;
            }
        }
        for (question, got) in probe::all(meeting.at, kind, self.comparer.sides.read_only) {
            self.findings.probes += 1;
            if got.fuse != got.kernel {
                let shown = |got: Got<()>| match got {
                    Ok(()) => Value::is(SUCCEEDS),
                    Err(errno) => Value::is(errno_name(errno)),
                };
                self.differs(meeting.path, What::Errno, Some(question), got.map(shown));
            }
        }
    }
}

/// What a listing says of a kind, and whether that is wrong.
fn listed_kind(listed: Option<Listed>, stat: &Got<Stat>) -> (Value, bool) {
    let (Some(listed), Ok(stat)) = (listed, stat) else {
        return (Value::is("not listed, or not there"), false);
    };
    let (told, kind) = (listed.kind, kind_of(stat));
    if told == FileType::Unknown || told == kind {
        return (Value::is(kind_word(kind)), false);
    }
    let text = format!("{}, listed as {}", kind_word(kind), kind_word(told));
    (Value::is(text), true)
}

#[cfg(test)]
#[path = "meet_tests.rs"]
mod tests;
