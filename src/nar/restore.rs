// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making the tree that an archive describes, canonical as Nix leaves it.
//!
//! Invariant: everything is made anew, by one name in a directory that was made before, so nothing
//! outside the place is touched whatever the archive says; a tree that was not finished is removed.

use super::canonical::{DIRECTORY_MODE, STORE_TIME, file_mode, strip_xattrs};
use super::place::Place;
use super::reader::read;
use super::remove::remove_tree;
use super::sink::{FileHead, Sink};
use super::wire::Input;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Reads an archive and makes its tree at `place`, where nothing may be; returns the size of the
/// archive. On an error nothing is left there.
pub fn restore<R: Read>(place: &Place<'_>, input: &mut Input<R>) -> Result<u64> {
    let mut restorer = Restorer::new(*place);
    match read(input, &mut restorer) {
        Ok(size) => restorer.finish().map(|()| size),
        Err(error) => Err(restorer.undo(error)),
    }
}

/// Makes a tree of what it is told as a [`Sink`]; what was made goes again unless
/// [`Restorer::finish`] is called.
#[derive(Debug)]
pub struct Restorer<'a> {
    place: Place<'a>,
    levels: Vec<Level>,
    /// The name of the next node.
    name: Vec<u8>,
    file: Option<File>,
    state: State,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    dir: OwnedFd,
}

#[derive(Debug)]
struct File {
    fd: OwnedFd,
    executable: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing was made yet.
    Untouched,
    /// The top was made, or more.
    Begun,
    /// The top is complete.
    Complete,
    /// Nothing is to be removed any more.
    Settled,
}

impl<'a> Restorer<'a> {
    /// Begins with nothing; `place` must be free when the first node comes.
    pub fn new(place: Place<'a>) -> Restorer<'a> {
        Restorer {
            place,
            levels: Vec::new(),
            name: place.name.to_vec(),
            file: None,
            state: State::Untouched,
        }
    }

    /// Keeps the tree.
    pub fn finish(mut self) -> Result<()> {
        if self.state == State::Complete {
            self.state = State::Settled;
            return Ok(());
        }
        let error = Error::on("restore", self.place.path(), "the archive is not complete");
        Err(self.undo(error))
    }

    /// Removes what was made, because of `error`, and returns that.
    pub fn undo(mut self, error: Error) -> Error {
        match self.remove() {
            Ok(()) => error,
            Err(why) => error.hint(format!("part of it is left, remove it: {why}")),
        }
    }

    fn remove(&mut self) -> Result<()> {
        let state = std::mem::replace(&mut self.state, State::Settled);
        self.levels.clear();
        self.file = None;
        match state {
            State::Begun | State::Complete => remove_tree(&self.place).map(drop),
            State::Untouched | State::Settled => Ok(()),
        }
    }

    fn dir(&self) -> BorrowedFd<'_> {
        let level = self.levels.last();
        level.map_or(self.place.dir, |level| level.dir.as_fd())
    }

    fn failed(&self, verb: &str, errno: Errno) -> Error {
        let mut path: PathBuf = self.place.path();
        let above = self.levels.iter().skip(1).map(|level| &level.name);
        if !self.levels.is_empty() {
            path.extend(
                above
                    .chain([&self.name])
                    .map(|name| OsStr::from_bytes(name)),
            );
        }
        Error::on(verb, path, errno)
    }

    /// Notes that a node was made; the first one is the top.
    fn made(&mut self) {
        if self.state == State::Untouched {
            self.state = State::Begun;
        }
    }

    /// Notes that a node is complete.
    fn completed(&mut self) {
        if self.levels.is_empty() {
            self.state = State::Complete;
        }
    }

    fn make_dir(&mut self) -> rustix::io::Result<()> {
        // Nobody else can put anything into it, or look at half of it.
        rustix::fs::mkdirat(self.dir(), &*self.name, Mode::RWXU)?;
        self.made();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(self.dir(), &*self.name, flags, Mode::empty())?;
        let name = std::mem::take(&mut self.name);
        self.levels.push(Level { name, dir });
        Ok(())
    }

    fn make_file(&mut self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(self.dir(), &*self.name, flags, mode)?;
        self.made();
        Ok(file)
    }

    fn make_link(&mut self, target: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::symlinkat(target, self.dir(), &*self.name)?;
        self.made();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(self.dir(), &*self.name, &STORE_TIME, flags)
    }
}

/// Makes a new object canonical. What a directory hands down to what is made in it (access lists,
/// the set-group-id bit) goes too.
fn seal(fd: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    strip_xattrs(
        |buffer| rustix::fs::flistxattr(fd, buffer),
        |name| rustix::fs::fremovexattr(fd, name),
    )?;
    rustix::fs::fchmod(fd, mode)?;
    rustix::fs::futimens(fd, &STORE_TIME)
}

impl Sink for Restorer<'_> {
    fn directory(&mut self) -> Result<()> {
        self.make_dir()
            .map_err(|errno| taken(self.failed("create directory", errno), errno))
    }

    fn entry(&mut self, name: &[u8]) -> Result<()> {
        name.clone_into(&mut self.name);
        Ok(())
    }

    fn end_directory(&mut self) -> Result<()> {
        let Some(Level { name, dir }) = self.levels.pop() else {
            return Ok(());
        };
        self.name = name;
        seal(&dir, DIRECTORY_MODE).map_err(|errno| self.failed("finish directory", errno))?;
        self.completed();
        Ok(())
    }

    fn file(&mut self, head: FileHead) -> Result<()> {
        let fd = self.make_file();
        let fd = fd.map_err(|errno| taken(self.failed("create", errno), errno))?;
        let executable = head.executable;
        self.file = Some(File { fd, executable });
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(file) = &self.file else {
            return Err(self.failed("write", Errno::BADF));
        };
        while !bytes.is_empty() {
            match rustix::io::write(&file.fd, bytes) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(count) => bytes = &bytes[count..],
                Err(errno) => return Err(self.failed("write", errno)),
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            seal(&file.fd, file_mode(file.executable))
                .map_err(|errno| self.failed("finish", errno))?;
        }
        self.completed();
        Ok(())
    }

    fn symlink(&mut self, target: &[u8]) -> Result<()> {
        self.make_link(target)
            .map_err(|errno| taken(self.failed("create link", errno), errno))?;
        self.completed();
        Ok(())
    }
}

fn taken(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::EXIST => error.hint("what is there is not replaced: remove it first"),
        _ => error,
    }
}

impl Drop for Restorer<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::warn!("an unfinished object is left: {error}");
        }
    }
}
