// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon that knows the runtime roots, asked instead of `/proc` with `use-roots-daemon`.
//!
//! Invariant: an answer that is late, too long, cut short or no list of store paths is an error.

use super::others::RECORD_MAX_BYTES;
use super::socket;
use crate::error::{Error, Result};
use crate::store::{ObjectName, StoreDir};
use crate::wait::Interrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// More than a store has objects in use.
const OBJECTS_MAX: usize = 1 << 20;
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Asks the daemon at `STATE/gc-roots-socket/socket` which objects are in use; it may take `limit`.
pub fn ask_roots_daemon(
    state: &Path,
    store: &StoreDir,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<BTreeSet<ObjectName>> {
    let path = state.join("gc-roots-socket/socket");
    let failed = |why: io::Error| {
        Error::on("ask the roots daemon at", &path, why)
            .hint("start it, or leave out use-roots-daemon")
    };
    let mut stream = socket::call(&path).map_err(|errno| failed(errno.into()))?;
    let until = Instant::now() + limit;
    let mut answer = Answer::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        interrupt.check("ask the roots daemon")?;
        match stream.read(&mut buffer) {
            Ok(0) => return answer.finish().map_err(failed),
            Ok(read) => answer
                .take(buffer.get(..read).unwrap_or_default(), store)
                .map_err(failed)?,
            Err(why) if why.kind() == ErrorKind::WouldBlock => wait(&stream).map_err(failed)?,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(failed(why)),
        }
        if Instant::now() >= until {
            return Err(failed(ErrorKind::TimedOut.into()));
        }
    }
}

fn wait(stream: &UnixStream) -> io::Result<()> {
    match poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&SLICE)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    record: Vec<u8>,
    objects: BTreeSet<ObjectName>,
}

impl Answer {
    pub(super) fn take(&mut self, bytes: &[u8], store: &StoreDir) -> io::Result<()> {
        for piece in bytes.split_inclusive(|&byte| byte == 0) {
            self.record.extend_from_slice(piece);
            if u64::try_from(self.record.len()).unwrap_or(u64::MAX) > RECORD_MAX_BYTES {
                return Err(io::Error::other("it sends no list of store paths"));
            }
            let Some((0, path)) = self.record.split_last() else {
                continue;
            };
            match store.parse(Path::new(OsStr::from_bytes(path))) {
                Some(Ok(object)) => self.objects.insert(object),
                _ => {
                    let why = format!("'{}' is no path of this store", path.escape_ascii());
                    return Err(io::Error::other(why));
                }
            };
            if self.objects.len() > OBJECTS_MAX {
                return Err(io::Error::other("its answer has no end"));
            }
            self.record.clear();
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<BTreeSet<ObjectName>> {
        match self.record.is_empty() {
            true => Ok(self.objects),
            false => Err(io::Error::other("its answer was cut short")),
        }
    }
}
