// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making an existing tree canonical: the modes, times and attributes that Nix gives its objects.
//!
//! Invariant: a tree that holds what no store object can hold, or a file that is linked from outside
//! of it, is refused before anything of it has changed.

use super::place::{At, Met, Place, Visit, kind_of, proc_path, unsupported, walk};
use crate::error::{Error, Result};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The mode of every directory.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o555);

/// The time of last change of everything is 1; that of last access stays.
pub(super) const STORE_TIME: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    },
    last_modification: Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    },
};

/// Extended attributes that belong to the system, as Nix's setting `ignored-acls` has them.
const KEPT: [&[u8]; 3] = [b"security.selinux", b"system.nfs4_acl", b"security.csm"];

/// What OverlayFS notes on objects of an upper directory stays: it says what they hide.
const KEPT_FAMILIES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What is done with files that have links outside of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are an error: whoever has the other link would have his file changed.
    Refuse,
    /// They are taken as they are: the other links are the store's own (`.links`).
    Allow,
}

/// Returns the mode of a file.
pub(super) fn file_mode(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o555 } else { 0o444 })
}

/// Makes the tree at `place` canonical: files 0444 or 0555 (if the owner may execute them),
/// directories 0555, mtime 1, no extended attributes but the system's own, and the caller's user
/// and group where the user is another one.
pub fn canonicalise(place: &Place<'_>, links: Links) -> Result<()> {
    let mut inspection = Inspection::default();
    walk(place, &mut inspection)?;
    if links == Links::Refuse {
        inspection.refuse_links()?;
    }
    let mut sealing = Sealing {
        user: rustix::process::geteuid(),
        group: rustix::process::getegid(),
    };
    walk(place, &mut sealing)
}

/// The look at everything before anything is changed.
#[derive(Debug, Default)]
struct Inspection {
    /// Files with several links: how many there are, how many were met, and one that was.
    linked: HashMap<(u64, u64), Linked>,
}

#[derive(Debug)]
struct Linked {
    links: usize,
    met: usize,
    path: PathBuf,
}

impl Inspection {
    fn refuse_links(&self) -> Result<()> {
        let outside = self.linked.values().filter(|file| file.met < file.links);
        // The first one by name, so that the same tree gives the same message.
        let Some(file) = outside.min_by_key(|file| &file.path) else {
            return Ok(());
        };
        let why = "the file has links outside of the tree, whose mode and time would change too";
        Err(Error::on("make canonical", &file.path, why)
            .hint("copy it, so that the link is its own"))
    }
}

impl Visit for Inspection {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        let stat = at.stat()?;
        match kind_of(&stat) {
            FileType::Directory => enter(at),
            FileType::RegularFile | FileType::Symlink => {
                if stat.st_nlink > 1 {
                    let key = (stat.st_dev, stat.st_ino);
                    let file = self.linked.entry(key).or_insert_with(|| Linked {
                        links: 0,
                        met: 0,
                        path: at.path(),
                    });
                    file.met += 1;
                    file.links = usize::try_from(stat.st_nlink).unwrap_or(usize::MAX);
                }
                Ok(Met::Done)
            }
            other => Err(at.failed("make canonical", unsupported(other))),
        }
    }

    fn leave(&mut self, _at: &At<'_>, _dir: OwnedFd) -> Result<()> {
        Ok(())
    }
}

fn enter(at: &At<'_>) -> Result<Met> {
    let dir = at.open_own_dir(OFlags::empty());
    dir.map(Met::Enter)
        .map_err(|errno| at.failed("open directory", errno))
}

/// The changes.
struct Sealing {
    user: Uid,
    group: Gid,
}

impl Visit for Sealing {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        let failed = |errno| at.failed("make canonical", errno);
        // Whatever its mode is, this opens it, and cannot change it.
        let object = at.open(OFlags::PATH).map_err(failed)?;
        let stat = rustix::fs::fstat(&object).map_err(failed)?;
        match kind_of(&stat) {
            FileType::Directory => return enter(at),
            FileType::RegularFile | FileType::Symlink => {
                self.seal(object.as_fd(), &stat).map_err(failed)?;
            }
            other => return Err(at.failed("make canonical", unsupported(other))),
        }
        Ok(Met::Done)
    }

    fn leave(&mut self, at: &At<'_>, dir: OwnedFd) -> Result<()> {
        rustix::fs::fstat(&dir)
            .and_then(|stat| self.seal(dir.as_fd(), &stat))
            .map_err(|errno| at.failed("make canonical", errno))
    }
}

impl Sealing {
    /// Makes one object canonical; its owner comes last, as whoever gives a file away may not
    /// change it any more.
    fn seal(&self, object: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
        let path = proc_path(object);
        strip_xattrs(
            |buffer| rustix::fs::listxattr(&path, buffer),
            |name| rustix::fs::removexattr(&path, name),
        )?;
        let mode = match kind_of(stat) {
            FileType::Directory => Some(DIRECTORY_MODE),
            FileType::RegularFile => Some(file_mode(stat.st_mode & 0o100 != 0)),
            _ => None,
        };
        if let Some(mode) = mode
            && mode.as_raw_mode() != stat.st_mode & 0o7777
        {
            rustix::fs::chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty())?;
        }
        if (stat.st_mtime, stat.st_mtime_nsec) != (1, 0) {
            rustix::fs::utimensat(object, c"", &STORE_TIME, AtFlags::EMPTY_PATH)?;
        }
        if stat.st_uid != self.user.as_raw() {
            let (user, group) = (Some(self.user), Some(self.group));
            rustix::fs::chownat(object, c"", user, group, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }
}

/// Removes every extended attribute that is not kept.
pub(super) fn strip_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    remove: impl Fn(&[u8]) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut names = vec![0; 256];
    let count = loop {
        match list(&mut names) {
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(()),
            other => break other?,
        }
    };
    let names = names[..count].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty()) {
        let family = |family: &&[u8]| name.starts_with(family);
        if KEPT.contains(&name) || KEPT_FAMILIES.iter().any(family) {
            continue;
        }
        match remove(name) {
            // Somebody else was faster.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
