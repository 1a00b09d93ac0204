// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a comparison found, as data, and its stable JSON form.
//!
//! Invariant: the order depends on the store alone: by path, and for one path by [`What`].

use super::expected::{ROWS, Row};
use super::side::{Value, errno_name};
use rustix::io::Errno;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Examples that are kept of what is only counted.
const EXAMPLES: usize = 3;

/// What of an object is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Whether there is an object of the name.
    Presence,
    /// Whether, or without which error, listings tell it.
    Listing,
    /// How often one listing tells it.
    ListedTimes,
    /// The kind that listings tell, where it is not the object's.
    ListedType,
    /// The inode number that the driver's listing tells, where it is not the object's.
    ListedInode,
    /// Its kind.
    Type,
    /// Its permission bits.
    Mode,
    /// User and group.
    Owner,
    /// Modification time, to the nanosecond.
    Mtime,
    /// Size in bytes.
    Size,
    /// How many names it has.
    Links,
    /// The numbers of a device.
    Device,
    /// Its inode number.
    Inode,
    /// Which other names stand for the same object.
    HardLinks,
    /// What a symlink leads to.
    Target,
    /// Whether its extended attributes can be listed.
    Xattrs,
    /// One extended attribute.
    Xattr,
    /// The contents.
    Content,
    /// The error of a question of the probing set.
    Errno,
}

impl What {
    /// Returns the word for it, in text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            What::Presence => "presence",
            What::Listing => "listing",
            What::ListedTimes => "listed-times",
            What::ListedType => "listed-type",
            What::ListedInode => "listed-inode",
            What::Type => "type",
            What::Mode => "mode",
            What::Owner => "owner",
            What::Mtime => "mtime",
            What::Size => "size",
            What::Links => "links",
            What::Device => "device",
            What::Inode => "inode",
            What::HardLinks => "hard-links",
            What::Target => "target",
            What::Xattrs => "xattrs",
            What::Xattr => "xattr",
            What::Content => "content",
            What::Errno => "errno",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// From the top of the store; empty for the top directory.
    pub path: Vec<u8>,
    /// What is different.
    pub what: What,
    /// Which attribute or question, where there are several.
    pub detail: Option<String>,
    /// What the driver shows.
    pub fuse: Value,
    /// What the kernel shows.
    pub kernel: Value,
    /// The row that explains it, if it is a deliberate one.
    pub row: Option<&'static Row>,
}

/// Something that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// The first paths.
    pub examples: Vec<Vec<u8>>,
}

impl Tally {
    fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(path.to_vec());
        }
    }

    fn join(&mut self, other: Tally) {
        self.count += other.count;
        let room = EXAMPLES - self.examples.len();
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// What both sides refuse alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub operation: &'static str,
    /// The symbol of the error (`EACCES`).
    pub errno: String,
    /// How often.
    pub tally: Tally,
}

/// What was found about one name at the top and everything below.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) differences: Vec<Difference>,
    expected: BTreeMap<usize, Tally>,
    refused: BTreeMap<(&'static str, i32), Tally>,
    pub(super) objects: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) probes: u64,
}

impl Findings {
    /// Adds a difference that no row explains.
    pub(super) fn differs(
        &mut self,
        path: &[u8],
        what: What,
        detail: Option<String>,
        fuse: Value,
        kernel: Value,
    ) {
        self.push(Difference {
            path: path.to_vec(),
            what,
            detail,
            fuse,
            kernel,
            row: None,
        });
    }

    pub(super) fn push(&mut self, difference: Difference) {
        self.differences.push(difference);
    }

    /// Counts a difference that row number `row` explains.
    pub(super) fn expected(&mut self, row: usize, path: &[u8]) {
        self.expected.entry(row).or_default().add(path);
    }

    /// Counts what both sides refuse with the same error.
    pub(super) fn refused(&mut self, operation: &'static str, errno: Errno, path: &[u8]) {
        let key = (operation, errno.raw_os_error());
        self.refused.entry(key).or_default().add(path);
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether deliberate differences count.
    pub strict: bool,
    /// In the order of paths.
    pub differences: Vec<Difference>,
    /// Deliberate differences, which do not count.
    pub expected: Vec<(&'static Row, Tally)>,
    /// What both refuse alike.
    pub refused: Vec<Refusal>,
    /// Names that both sides were asked about.
    pub objects: u64,
    /// Files whose contents were compared.
    pub files: u64,
    /// Bytes read from each side.
    pub bytes: u64,
    /// Questions of the probing set.
    pub probes: u64,
    /// Names at the top that changed meanwhile and were looked at again.
    pub looked_again: usize,
}

impl Report {
    pub(super) fn new(strict: bool, findings: Vec<Findings>) -> Report {
        let mut all = Findings::default();
        for found in findings {
            all.differences.extend(found.differences);
            for (row, tally) in found.expected {
                all.expected.entry(row).or_default().join(tally);
            }
            for (key, tally) in found.refused {
                all.refused.entry(key).or_default().join(tally);
            }
            all.objects += found.objects;
            all.files += found.files;
            all.bytes += found.bytes;
            all.probes += found.probes;
        }
        let key = |difference: &Difference| (difference.path.clone(), difference.what);
        all.differences.sort_by_cached_key(key);
        let refusal = |((operation, errno), tally)| Refusal {
            operation,
            errno: errno_name(Errno::from_raw_os_error(errno)),
            tally,
        };
        Report {
            strict,
            differences: all.differences,
            expected: all
                .expected
                .into_iter()
                .map(|(row, tally)| (&ROWS[row], tally))
                .collect(),
            refused: all.refused.into_iter().map(refusal).collect(),
            objects: all.objects,
            files: all.files,
            bytes: all.bytes,
            probes: all.probes,
            looked_again: 0,
        }
    }

    /// Whether there is no difference that counts.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// Returns the stable JSON form, with `shown` differences at most.
    pub fn json(&self, shown: usize) -> Json {
        let shown = &self.differences[..shown.min(self.differences.len())];
        json!({
            "equal": self.is_equal(),
            "strict": self.strict,
            "differences": shown.iter().map(difference).collect::<Json>(),
            "difference-count": self.differences.len(),
            "expected": self.expected.iter().map(expected).collect::<Json>(),
            "refused": self.refused.iter().map(refused).collect::<Json>(),
            "objects": self.objects,
            "files": self.files,
            "bytes": self.bytes,
            "probes": self.probes,
            "looked-again": self.looked_again,
        })
    }
}

fn difference(it: &Difference) -> Json {
    json!({
        "path": bytes(&it.path),
        "what": it.what.word(),
        "detail": it.detail,
        "fuse": it.fuse.to_string(),
        "kernel": it.kernel.to_string(),
        "row": it.row.map(|row| row.name),
    })
}

fn expected((row, tally): &(&'static Row, Tally)) -> Json {
    json!({
        "row": row.name,
        "heading": row.heading,
        "here": row.here,
        "kernel": row.kernel,
        "why": row.why,
        "count": tally.count,
        "examples": examples(tally),
    })
}

fn refused(it: &Refusal) -> Json {
    json!({
        "operation": it.operation,
        "errno": it.errno,
        "count": it.tally.count,
        "examples": examples(&it.tally),
    })
}

fn examples(tally: &Tally) -> Json {
    tally.examples.iter().map(|path| bytes(path)).collect()
}

/// A path as JSON: a string, or an array of byte values if it is not UTF-8.
fn bytes(path: &[u8]) -> Json {
    std::str::from_utf8(path).map_or_else(|_| Json::from(path), Json::from)
}
