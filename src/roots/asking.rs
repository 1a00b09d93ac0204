// SPDX-License-Identifier: MIT OR Apache-2.0
//! Telling a running collector of new roots.
//!
//! Invariant: when [`Caller::tell`] returns, no collector is at work that does not know of them.

use super::gc_lock::GcLock;
use super::socket;
use crate::error::{Error, Result};
use crate::wait::{Interrupt, Wait, nap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a collector has to open its socket, before the lock is tried again.
const NO_SERVER: Duration = Duration::from_millis(100);
/// After a server that hung up.
const HUNG_UP: Duration = Duration::from_millis(5);
/// How often a wait for an answer looks up.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The connection to a collector, kept as long as it collects.
#[derive(Debug)]
pub(super) struct Caller {
    state: PathBuf,
    connection: Option<UnixStream>,
}

/// Why a root could not be told.
enum Untold {
    /// Nobody listens: a collector that has just begun, or ended.
    NoServer,
    /// The server went away in between.
    HungUp,
    Failed(Error),
}

type Told<T> = std::result::Result<T, Untold>;

impl From<Error> for Untold {
    fn from(error: Error) -> Untold {
        Untold::Failed(error)
    }
}

impl Caller {
    pub(super) fn new(state: &Path) -> Caller {
        Caller {
            state: state.to_owned(),
            connection: None,
        }
    }

    /// Makes sure that a collector which is at work knows of `paths`. They must be in the file of
    /// this process already: a collector that begins later reads them there.
    pub(super) fn tell(&mut self, paths: &[PathBuf], interrupt: &Interrupt) -> Result<()> {
        let what = "tell the garbage collector of a root".to_owned();
        let mut wait = Wait::to(what, interrupt);
        loop {
            if GcLock::try_shared(&self.state)?.is_some() {
                self.connection = None;
                return Ok(());
            }
            match self.tell_all(paths, &mut wait) {
                Ok(()) => return Ok(()),
                Err(Untold::NoServer) => nap(NO_SERVER),
                Err(Untold::HungUp) => nap(HUNG_UP),
                Err(Untold::Failed(error)) => return Err(error),
            }
            self.connection = None;
            wait.goes_on()?;
        }
    }

    fn tell_all(&mut self, paths: &[PathBuf], wait: &mut Wait<'_>) -> Told<()> {
        let at = self.state.join("gc-socket/socket");
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => call(&at)?,
        };
        for path in paths {
            let mut line = path.as_os_str().as_bytes().to_vec();
            line.push(b'\n');
            send(&mut connection, &line, &at, wait)?;
            receive(&mut connection, &at, wait)?;
        }
        self.connection = Some(connection);
        Ok(())
    }
}

fn call(at: &Path) -> Told<UnixStream> {
    socket::call(at).map_err(|why| match why {
        Errno::CONNREFUSED | Errno::NOENT | Errno::AGAIN | Errno::INTR => Untold::NoServer,
        why => failed(at, &why.into()),
    })
}

fn send(connection: &mut UnixStream, mut line: &[u8], at: &Path, wait: &mut Wait<'_>) -> Told<()> {
    while !line.is_empty() {
        match connection.write(line) {
            Ok(sent) => line = line.get(sent..).unwrap_or_default(),
            Err(why) => ready(connection, PollFlags::OUT, &why, at, wait)?,
        }
    }
    Ok(())
}

fn receive(connection: &mut UnixStream, at: &Path, wait: &mut Wait<'_>) -> Told<()> {
    let mut answer = [0];
    loop {
        match connection.read(&mut answer) {
            Ok(0) => return Err(Untold::HungUp),
            Ok(_) if answer == *b"1" => return Ok(()),
            Ok(_) => {
                let why = format!("it answered '{}'", answer.escape_ascii());
                return Err(failed(at, &io::Error::other(why)));
            }
            Err(why) => ready(connection, PollFlags::IN, &why, at, wait)?,
        }
    }
}

/// Waits until a call that ended with `why` is worth another try, if it ever is.
fn ready(
    connection: &UnixStream,
    event: PollFlags,
    why: &io::Error,
    at: &Path,
    wait: &mut Wait<'_>,
) -> Told<()> {
    match why.kind() {
        ErrorKind::WouldBlock => {}
        ErrorKind::Interrupted => return Ok(wait.goes_on()?),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => return Err(Untold::HungUp),
        _ => return Err(failed(at, why)),
    }
    wait.goes_on()?;
    match poll(&mut [PollFd::new(connection, event)], Some(&SLICE)) {
        Ok(_) | Err(Errno::INTR) => Ok(wait.goes_on()?),
        Err(why) => Err(failed(at, &why.into())),
    }
}

fn failed(at: &Path, why: &io::Error) -> Untold {
    Untold::Failed(Error::on("tell the garbage collector at", at, why))
}
