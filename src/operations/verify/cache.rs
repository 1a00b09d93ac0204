// SPDX-License-Identifier: MIT OR Apache-2.0
//! A binary cache in a directory, as `nix copy --to file:///DIR` makes one.
//!
//! Decides which program unpacks an archive. Invariants: nothing outside of the cache is read,
//! whatever its files say; and the program has ended when the archive was taken, or given up.

use crate::error::{Error, Kind, Result};
use crate::metadata::open_regular;
use crate::store::{NarInfo, ObjectName, StoreDir};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// No narinfo has a reason to be larger, in bytes.
const INFO_BYTES: u64 = 16 << 20;

/// Read at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Which program unpacks what.
const PROGRAMS: [(&str, &str); 6] = [
    ("xz", "xz"),
    ("bzip2", "bzip2"),
    ("gzip", "gzip"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("br", "brotli"),
];

/// A binary cache.
#[derive(Debug)]
pub(super) struct Cache {
    dir: OwnedFd,
    path: PathBuf,
    store: StoreDir,
}

impl Cache {
    pub(super) fn open(path: &Path, store: StoreDir) -> Result<Cache> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|why| Error::on("open binary cache", path, why))?;
        let marker = path.join("nix-cache-info");
        if let Err(why) = open_regular(&marker) {
            return Err(Error::on("open binary cache", path, why).hint(
                "it has no nix-cache-info: name a directory made by nix copy --to file:///DIR",
            ));
        }
        Ok(Cache {
            dir,
            path: path.to_owned(),
            store,
        })
    }

    /// Has `take` read the archive of `name`; `None` if the cache has none.
    pub(super) fn with_archive<T>(
        &self,
        name: &ObjectName,
        take: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(info) = self.info(name)? else {
            return Ok(None);
        };
        let archive = self.open_below(&info.file)?.ok_or_else(|| {
            let why = format!("{}, which it tells of, is missing", info.file.display());
            self.corrupt(name, why)
        })?;
        if info.compression == "none" {
            return take(&mut BufReader::with_capacity(BUFFER_BYTES, archive)).map(Some);
        }
        let mut unpacking = self.unpack(name, &info, archive)?;
        let taken = {
            let output = unpacking.0.stdout.take();
            let output = output.ok_or_else(|| self.corrupt(name, "no output".to_owned()))?;
            take(&mut BufReader::with_capacity(BUFFER_BYTES, output))
        };
        taken.map(Some)
    }

    fn unpack(&self, name: &ObjectName, info: &NarInfo, archive: File) -> Result<Unpacking> {
        let word = info.compression.as_str();
        let what = format!("unpack {}", self.path.join(&info.file).display());
        let known = PROGRAMS.iter().find(|(known, _)| *known == word);
        let Some((_, program)) = known else {
            let why = format!("compression '{}' is not known", word.escape_debug());
            return Err(self.corrupt(name, why));
        };
        let started = Command::new(program)
            .arg("-dc")
            .stdin(archive)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Ok(Unpacking(child)),
            Err(why) if why.kind() == ErrorKind::NotFound => {
                let why = format!("the program {program} is not installed");
                Err(Error::environment(what, why)
                    .hint("install it, or make the cache with file:///DIR?compression=none"))
            }
            Err(why) => Err(Error::environment(what, why)),
        }
    }

    fn info(&self, name: &ObjectName) -> Result<Option<NarInfo>> {
        let file = PathBuf::from(format!("{}.narinfo", name.hash_part()));
        let Some(opened) = self.open_below(&file)? else {
            return Ok(None);
        };
        let mut text = String::new();
        let read = opened.take(INFO_BYTES).read_to_string(&mut text);
        read.map_err(|why| Error::on("read", self.path.join(&file), why))?;
        let info = NarInfo::parse(&text, &self.store).map_err(|why| self.corrupt(name, why))?;
        match info.name == *name {
            true => Ok(Some(info)),
            false => Err(self.corrupt(name, format!("it tells of {}", info.name))),
        }
    }

    /// Opens a regular file of the cache; `None` if there is none.
    fn open_below(&self, file: &Path) -> Result<Option<File>> {
        let failed = |why: std::io::Error| Error::on("open", self.path.join(file), why);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH;
        let opened = match rustix::fs::openat2(&self.dir, file, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => return Ok(None),
            opened => File::from(opened.map_err(|why| failed(why.into()))?),
        };
        match opened.metadata().map_err(failed)?.is_file() {
            true => Ok(Some(opened)),
            false => Err(failed(std::io::Error::other("it is not a regular file"))),
        }
    }

    fn corrupt(&self, name: &ObjectName, why: String) -> Error {
        let file = self.path.join(format!("{}.narinfo", name.hash_part()));
        Error::new(Kind::Corrupt, format!("use {}", file.display()), why)
    }
}

/// A program that unpacks; given up when this is dropped.
#[derive(Debug)]
struct Unpacking(Child);

impl Drop for Unpacking {
    fn drop(&mut self) {
        // One that has ended is only waited for.
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(why) = ended {
            log::debug!("end the unpacking: {why}");
        }
    }
}
