// SPDX-License-Identifier: MIT OR Apache-2.0
//! A look at a tree that is not to be changed: whether it is canonical, and what it is now.
//!
//! Invariant: two looks that tell the same were at one and the same tree, of which nothing was
//! written, moved or changed in between.

use super::canonical::{DIRECTORY_MODE, file_mode};
use super::place::{At, Met, Place, Visit, kind_of, unsupported, walk};
use crate::error::Result;
use crate::store::Sha256;
use rustix::fs::{FileType, OFlags, Stat};
use sha2::Digest as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What keeps a tree from being canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is; the first of several.
    pub path: PathBuf,
    /// What it is.
    pub why: String,
    /// Whether it is the top of the tree itself.
    pub at_top: bool,
}

/// What a look at a tree told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Why the tree is not canonical; `None` if it is.
    pub fault: Option<Fault>,
    /// When something of it last changed, in seconds and nanoseconds since 1970.
    pub changed: (i64, i64),
    /// Stands for every name, attribute and number in it.
    pub digest: Sha256,
}

/// Looks at the tree at `place`. Canonical is what Nix leaves, and belongs to one of `owners`.
/// Of a tree with a fault the rest is not looked at.
pub fn look(place: &Place<'_>, owners: &[u32]) -> Result<Look> {
    let mut looking = Looking {
        owners,
        fault: None,
        changed: (i64::MIN, 0),
        state: sha2::Sha256::new(),
    };
    walk(place, &mut looking)?;
    Ok(Look {
        fault: looking.fault,
        changed: looking.changed,
        digest: Sha256(looking.state.finalize().into()),
    })
}

struct Looking<'o> {
    owners: &'o [u32],
    fault: Option<Fault>,
    changed: (i64, i64),
    state: sha2::Sha256,
}

impl Visit for Looking<'_> {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        if self.fault.is_some() {
            return Ok(Met::Done);
        }
        let stat = at.stat()?;
        self.note(at, &stat);
        if let Some(why) = fault_of(&stat, self.owners) {
            self.fault = Some(Fault {
                path: at.path(),
                why,
                at_top: at.is_top(),
            });
            return Ok(Met::Done);
        }
        if kind_of(&stat) != FileType::Directory {
            return Ok(Met::Done);
        }
        let dir = at.open_own_dir(OFlags::empty());
        dir.map(Met::Enter)
            .map_err(|errno| at.failed("open directory", errno))
    }

    fn leave(&mut self, _at: &At<'_>, _dir: OwnedFd) -> Result<()> {
        self.state.update(b")");
        Ok(())
    }
}

impl Looking<'_> {
    fn note(&mut self, at: &At<'_>, stat: &Stat) {
        let changed = (number(stat.st_ctime), number(stat.st_ctime_nsec));
        self.changed = self.changed.max(changed);
        let numbers = [
            number(stat.st_mode),
            number(stat.st_uid),
            number(stat.st_size),
            number(stat.st_mtime),
            number(stat.st_mtime_nsec),
            changed.0,
            changed.1,
        ];
        self.state.update(b"(");
        self.state.update(number(at.name.len()).to_le_bytes());
        self.state.update(at.name);
        self.state.update(stat.st_dev.to_le_bytes());
        self.state.update(stat.st_ino.to_le_bytes());
        for number in numbers {
            self.state.update(number.to_le_bytes());
        }
    }
}

/// A number of an object; none of them is near the limit.
fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn fault_of(stat: &Stat, owners: &[u32]) -> Option<String> {
    let kind = kind_of(stat);
    let mode = match kind {
        FileType::Directory => Some(DIRECTORY_MODE),
        FileType::RegularFile => Some(file_mode(stat.st_mode & 0o111 != 0)),
        FileType::Symlink => None,
        other => return Some(unsupported(other)),
    };
    let found = stat.st_mode & 0o7777;
    if mode.is_some_and(|mode| mode.as_raw_mode() != found) {
        return Some(format!("it has the mode {found:04o}"));
    }
    if (number(stat.st_mtime), number(stat.st_mtime_nsec)) != (1, 0) {
        return Some("its time of last change is not 1".to_owned());
    }
    let owner = stat.st_uid;
    (!owners.contains(&owner)).then(|| format!("it belongs to the user {owner}"))
}
