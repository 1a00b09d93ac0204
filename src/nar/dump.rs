// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing the archive of a tree on disk, or telling what it holds.
//!
//! Invariant: what changes while it is read so that no archive of it would be true (a file that
//! shrinks or grows, a name that becomes something else) is an error, never a wrong archive.

use super::place::{At, Met, Place, Visit, kind_of, unsupported, walk};
use super::sink::{FileHead, Sink};
use super::tee::NarHasher;
use super::writer::Writer;
use crate::error::{Error, Kind, Result};
use crate::store::Sha256;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Read at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// The bit that makes a file executable in its archive.
const OWNER_MAY_EXECUTE: u32 = 0o100;

/// Writes the archive of the tree at `place` to `out`. After an error what was written is no
/// archive.
pub fn dump(place: &Place<'_>, out: impl Write) -> Result<()> {
    let subject = format!("NAR of {}", place.path().display());
    let mut writer = Writer::new(out, subject)?;
    tell(place, &mut writer)?;
    writer.finish().map(drop)
}

/// Tells `sink` what the archive of the tree at `place` holds. After an error it was not told all.
pub fn tell(place: &Place<'_>, sink: &mut impl Sink) -> Result<()> {
    let mut dumper = Dumper {
        sink,
        buffer: vec![0; BUFFER_BYTES],
    };
    walk(place, &mut dumper)
}

/// Returns the digest and size of the archive of the tree at `place`.
pub fn hash_tree(place: &Place<'_>) -> Result<(Sha256, u64)> {
    let mut hasher = NarHasher::new();
    dump(place, &mut hasher)?;
    Ok(hasher.finish())
}

struct Dumper<'s, S> {
    sink: &'s mut S,
    buffer: Vec<u8>,
}

impl<S: Sink> Visit for Dumper<'_, S> {
    fn meet(&mut self, at: &At<'_>) -> Result<Met> {
        if !at.is_top() {
            self.sink.entry(at.name)?;
        }
        match at.kind()? {
            FileType::RegularFile => self.file(at)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(at.dir, at.name, Vec::new());
                let target = target.map_err(|errno| at.failed("read link", errno))?;
                self.sink.symlink(target.as_bytes())?;
            }
            FileType::Directory => {
                let dir = at.open(OFlags::RDONLY | OFlags::DIRECTORY);
                let dir = dir.map_err(|errno| at.failed("open directory", errno))?;
                self.sink.directory()?;
                return Ok(Met::Enter(dir));
            }
            other => {
                let what = format!("read {}", at.path().display());
                return Err(Error::new(Kind::Corrupt, what, unsupported(other)));
            }
        }
        Ok(Met::Done)
    }

    fn leave(&mut self, _at: &At<'_>, _dir: OwnedFd) -> Result<()> {
        self.sink.end_directory()
    }
}

impl<S: Sink> Dumper<'_, S> {
    fn file(&mut self, at: &At<'_>) -> Result<()> {
        let failed = |errno| at.failed("read", errno);
        let file = at.open(OFlags::RDONLY).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if kind_of(&stat) != FileType::RegularFile {
            return Err(changed(at, "it is another thing than was listed"));
        }
        let size = u64::try_from(stat.st_size).map_err(|_| failed(Errno::OVERFLOW))?;
        self.sink.file(FileHead {
            executable: stat.st_mode & OWNER_MAY_EXECUTE != 0,
            size,
        })?;
        let mut left = size;
        loop {
            // One byte more than is due, which tells a file that has grown.
            let want =
                usize::try_from(left).map_or(BUFFER_BYTES, |left| BUFFER_BYTES.min(left + 1));
            let got = match rustix::io::read(&file, &mut self.buffer[..want]) {
                Err(Errno::INTR) => continue,
                got => got.map_err(failed)?,
            };
            match (got as u64, left) {
                (0, 0) => return self.sink.end_file(),
                (0, _) => return Err(changed(at, "it became shorter while it was read")),
                (got, left) if got > left => {
                    return Err(changed(at, "it became longer while it was read"));
                }
                _ => self.sink.data(&self.buffer[..got])?,
            }
            left -= got as u64;
        }
    }
}

fn changed(at: &At<'_>, why: &str) -> Error {
    at.failed("read", why)
        .hint("try again when nobody changes it")
}
