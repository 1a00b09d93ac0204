// SPDX-License-Identifier: MIT OR Apache-2.0
//! Equal files become hard links of one, by way of `.links`, in the form in which Nix keeps it.
//!
//! Invariant: a file is replaced in one step, by one that has been read and has its content and mode;
//! directories get back their mode and time. A collector may remove a link at any moment at which
//! nothing else has the file: it is made again.

use super::files::{self, File};
use super::{Report, Store};
use crate::error::{Error, Result};
use crate::nar::{Place, hash_tree};
use crate::operations::gc::links::LINKS;
use crate::operations::gc::removal::Sides;
use crate::store::{ObjectName, Sha256, base32};
use rustix::fs::{AtFlags, Mode, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// The bit that a file of a store has not.
const OWNER_MAY_WRITE: u32 = 0o200;

/// How often the link of one file may be removed between two steps before the file is left alone.
const TRIES: usize = 100;

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The file was replaced.
    Replaced,
    /// It stays as it is.
    Stays,
    /// The link is gone: somebody removed it.
    LinkGone,
}

/// What is known of `.links`.
#[derive(Debug)]
pub(super) struct Relinker {
    links: Sides,
    /// Numbers of the files that are in it.
    known: HashSet<u64>,
    /// Which links have the content that their name says.
    true_links: HashMap<Sha256, bool>,
    made: u64,
}

impl Relinker {
    pub(super) fn open(store: &Store) -> Result<Relinker> {
        let links = match Sides::open(store.layout(), LINKS)? {
            Some(links) => links,
            None => make(store)?,
        };
        let known = numbers(&store.layout().upper.join(LINKS))?;
        Ok(Relinker {
            links,
            known,
            true_links: HashMap::new(),
            made: 0,
        })
    }

    /// Links the files of one object.
    pub(super) fn object(
        &mut self,
        top: &Sides,
        name: &ObjectName,
        report: &mut Report,
    ) -> Result<()> {
        let name = name.as_str().as_bytes();
        files::each(top.upper(), top.merged(), name, &mut |file| {
            if let Some(bytes) = self.file(top, file)? {
                report.linked += 1;
                report.linked_bytes += bytes;
            }
            Ok(())
        })
    }

    /// Links one file; returns what that freed if it was replaced.
    fn file(&mut self, top: &Sides, file: &File<'_>) -> Result<Option<u64>> {
        let stat = &file.stat;
        if stat.st_mode & OWNER_MAY_WRITE != 0 {
            log::warn!(
                "skipping suspicious writable file {}",
                file.name.escape_ascii()
            );
            return Ok(None);
        }
        if stat.st_nlink > 1 && self.known.contains(&stat.st_ino) {
            return Ok(None);
        }
        let within = Path::new("the upper directory");
        let (hash, _) = hash_tree(&Place::new(file.upper, file.name, within)?)?;
        let freed = if stat.st_nlink == 1 { stat.st_size } else { 0 };
        for _ in 0..TRIES {
            match self.attempt(top, file, hash)? {
                Attempt::Replaced => return Ok(Some(u64::try_from(freed).unwrap_or(0))),
                Attempt::Stays => return Ok(None),
                Attempt::LinkGone => _ = self.true_links.remove(&hash),
            }
        }
        log::info!("the link of {} never stays", file.name.escape_ascii());
        Ok(None)
    }

    fn attempt(&mut self, top: &Sides, file: &File<'_>, hash: Sha256) -> Result<Attempt> {
        let link = base32::encode(&hash.0);
        let Some(found) = self.link(file, hash, link.as_bytes())? else {
            return Ok(Attempt::Stays);
        };
        let same = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size);
        if found.st_ino == file.stat.st_ino || same(&found) != same(&file.stat) {
            return Ok(Attempt::Stays);
        }
        self.replace(top, file, link.as_bytes())
    }

    /// Returns the link of this content, made if there is none; `None` if it cannot be used.
    fn link(&mut self, file: &File<'_>, hash: Sha256, link: &[u8]) -> Result<Option<Stat>> {
        if let Some(found) = self.links.stat(link)? {
            match self.is_true(hash, link)? {
                Some(true) => return Ok(Some(found)),
                Some(false) => {
                    log::warn!("removing corrupted link {}", link.escape_ascii());
                    self.links.remove(link)?;
                    self.true_links.remove(&hash);
                }
                None => {}
            }
        }
        let flags = AtFlags::empty();
        match rustix::fs::linkat(file.merged, file.name, self.links.merged(), link, flags) {
            Ok(()) => {}
            // The lower's, as OverlayFS shows it: to link to that would copy it. Or a full directory,
            // or too many links.
            Err(Errno::EXIST | Errno::NOSPC | Errno::MLINK) => return Ok(None),
            Err(errno) => return Err(failed("link", file.name, errno)),
        }
        self.true_links.insert(hash, true);
        let found = self.links.stat(link)?;
        self.known.extend(found.as_ref().map(|stat| stat.st_ino));
        Ok(found)
    }

    /// Tells whether the link has the content that its name says; `None` if it is gone.
    fn is_true(&mut self, hash: Sha256, link: &[u8]) -> Result<Option<bool>> {
        if let Some(known) = self.true_links.get(&hash) {
            return Ok(Some(*known));
        }
        let place = Place::new(self.links.upper(), link, Path::new(LINKS))?;
        let is_true = match hash_tree(&place) {
            Ok((found, _)) => found == hash,
            Err(why) => match self.links.stat(link)? {
                Some(_) => return Err(why),
                None => return Ok(None),
            },
        };
        self.true_links.insert(hash, is_true);
        Ok(Some(is_true))
    }

    /// Puts the link in the place of the file, unless it has too many names.
    fn replace(&mut self, top: &Sides, file: &File<'_>, link: &[u8]) -> Result<Attempt> {
        let name = loop {
            let name = format!(".tmp-link-{}-{}", std::process::id(), self.made);
            self.made += 1;
            let flags = AtFlags::empty();
            let links = self.links.merged();
            match rustix::fs::linkat(links, link, top.merged(), name.as_str(), flags) {
                Ok(()) => break name,
                Err(Errno::EXIST) => {}
                Err(Errno::MLINK) => return Ok(Attempt::Stays),
                Err(Errno::NOENT) => return Ok(Attempt::LinkGone),
                Err(errno) => return Err(failed("link", file.name, errno)),
            }
        };
        let moved = move_over(top.merged(), &name, file);
        if moved.is_err()
            && let Err(errno) = rustix::fs::unlinkat(top.merged(), &*name, AtFlags::empty())
        {
            log::warn!("remove {name}: {errno}");
        }
        match moved {
            Ok(()) => Ok(Attempt::Replaced),
            Err(Errno::MLINK) => Ok(Attempt::Stays),
            Err(errno) => Err(failed("replace", file.name, errno)),
        }
    }
}

/// Moves `name` over the file, whose directory is then as it was.
fn move_over(top: BorrowedFd<'_>, name: &str, file: &File<'_>) -> rustix::io::Result<()> {
    let rename = || rustix::fs::renameat(top, name, file.merged, file.name);
    if file.is_top {
        return rename();
    }
    let before = rustix::fs::fstat(file.merged)?;
    let mode = Mode::from_raw_mode(before.st_mode & 0o7777);
    let moved = match rename() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(file.merged, mode | Mode::WUSR)?;
            let moved = rename();
            rustix::fs::fchmod(file.merged, mode)?;
            moved
        }
        done => done,
    };
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: i64::try_from(before.st_mtime_nsec).unwrap_or(0),
        },
    };
    rustix::fs::futimens(file.merged, &times)?;
    moved
}

/// Makes the upper's `.links`. Where OverlayFS shows the lower's, a change of its mode to what it is
/// gives the upper one.
fn make(store: &Store) -> Result<Sides> {
    let path = store.layout().merged.join(LINKS);
    let refused = |errno: Errno| Error::on("create", &path, std::io::Error::from(errno));
    match rustix::fs::mkdirat(store.merged(), LINKS, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let found = rustix::fs::stat(&path).map_err(refused)?;
            let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
            rustix::fs::chmod(&path, mode).map_err(refused)?;
        }
        Err(errno) => return Err(refused(errno)),
    }
    let links = Sides::open(store.layout(), LINKS)?;
    links.ok_or_else(|| Error::on("create", &path, "the upper has none"))
}

/// Returns the numbers of the files in `.links`, which a listing tells.
fn numbers(links: &Path) -> Result<HashSet<u64>> {
    use std::os::unix::fs::DirEntryExt;
    let failed = |why: std::io::Error| Error::on("read", links, why);
    let entries = std::fs::read_dir(links).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.ino()).map_err(failed))
        .collect()
}

fn failed(verb: &str, name: &[u8], errno: Errno) -> Error {
    let why = std::io::Error::from(errno);
    Error::environment(format!("{verb} {}", name.escape_ascii()), why)
}
