// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store behind a daemon, asked through its socket.
//!
//! Decides when to connect, again or not at all, and what an error means to the user. Invariants: the
//! daemon is never asked to change its store; no wait, no question and no answer is without a limit;
//! a connection that failed in the middle of an answer is not used again.
//!
//! * `wire`: numbers, strings, lists. `connection`: the greeting and what comes before an answer.
//! * `operations`: the questions. `socket`: the way there, with its time limits.

mod connection;
mod operations;
mod socket;
pub mod wire;

pub use connection::{Connection, NEWEST, OLDEST};
pub use operations::NarStream;
pub use socket::{Limited, NAR_PIECE, Patience};
pub use wire::Failure;

use crate::error::{Error, Kind, Result};
use crate::metadata::Source;
use crate::store::{HASH_PART_BYTES, ObjectName, Outputs, PathInfo, StoreDir, base32};
use crate::wait::Interrupt;
use parking_lot::Mutex;
use rustix::io::Errno;
use socket::Unreachable;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

const INTERRUPTED: i32 = Errno::INTR.raw_os_error();

/// The metadata of the store behind a daemon.
#[derive(Debug)]
pub struct Daemon {
    socket: PathBuf,
    dir: StoreDir,
    patience: Patience,
    interrupt: Interrupt,
    held: Mutex<Held>,
}

/// What lasts from one question to the next.
#[derive(Debug, Default)]
struct Held {
    connection: Option<Connection<Limited>>,
    /// Whether objects rely on temporary roots, which end with the connection.
    rooted: bool,
}

impl Daemon {
    /// Takes the daemon at `socket`, whose store paths are those of `dir`. It is asked for nothing
    /// yet: who is not there is noticed by the first question.
    pub fn new(socket: &Path, dir: StoreDir, patience: Patience) -> Daemon {
        Daemon {
            socket: socket.to_owned(),
            dir,
            patience,
            interrupt: Interrupt::never(),
            held: Mutex::default(),
        }
    }

    /// Has `interrupt` end every wait for it.
    #[must_use]
    pub fn until(mut self, interrupt: &Interrupt) -> Daemon {
        self.interrupt = interrupt.clone();
        self
    }

    /// Connects, if that has not been done.
    ///
    /// # Errors
    /// Nobody answers at the socket, or no daemon of a known version.
    pub fn connect(&self) -> Result<()> {
        let mut held = self.held.lock();
        if held.connection.is_none() {
            held.connection = Some(self.greeted("connect")?);
        }
        Ok(())
    }

    /// Keeps `name` from being collected for as long as this value lives.
    ///
    /// # Errors
    /// Also every later question fails once the daemon has closed the connection, since what was
    /// kept may be gone then.
    pub fn add_temp_root(&self, name: &ObjectName) -> Result<()> {
        let doing = format!("keep {name}");
        self.ask(&doing, |connection| {
            connection.add_temp_root(&self.dir, name)
        })?;
        self.held.lock().rooted = true;
        Ok(())
    }

    /// Returns those of `names` that are valid.
    pub fn valid_among(&self, names: &BTreeSet<ObjectName>) -> Result<BTreeSet<ObjectName>> {
        let doing = format!("ask which of {} objects are valid", names.len());
        self.ask(&doing, |connection| {
            connection.valid_among(&self.dir, names)
        })
    }

    /// Returns a reader of the NAR of `name`, over a connection of its own. A NAR that the daemon
    /// did not send to its end is told by its structure alone.
    pub fn nar(&self, name: &ObjectName) -> Result<Nar> {
        let doing = format!("read the NAR of {name}");
        let stream = self
            .greeted(&doing)?
            .nar(&self.dir, name)
            .map_err(|failure| self.explain(&doing, failure))?;
        // Nothing more is asked: the daemon ends the stream after the NAR, instead of waiting.
        let (_, rest) = stream.get_ref();
        rest.get_ref()
            .end_questions()
            .map_err(|why| self.explain(&doing, why.into()))?;
        Ok(Nar { stream, piece: 0 })
    }

    /// Asks, over the connection that there is, or once over a new one where the daemon closed it.
    fn ask<T>(
        &self,
        doing: &str,
        question: impl Fn(&mut Connection<Limited>) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut held = self.held.lock();
        if let Some(mut connection) = held.connection.take() {
            let asked = socket::at_rest(connection.stream()).and_then(|()| {
                connection.stream_mut().get_mut().begin();
                question(&mut connection)
            });
            match asked {
                Err(Failure::Closed) if !held.rooted => {
                    log::debug!("{}: connecting again", self.socket.display());
                }
                asked => return self.answered(&mut held, connection, doing, asked),
            }
        } else if held.rooted {
            return Err(self.explain(doing, Failure::Closed));
        }
        let mut connection = self.greeted(doing)?;
        connection.stream_mut().get_mut().begin();
        let asked = question(&mut connection);
        self.answered(&mut held, connection, doing, asked)
    }

    /// Keeps a connection that is still in order.
    fn answered<T>(
        &self,
        held: &mut Held,
        connection: Connection<Limited>,
        doing: &str,
        asked: std::result::Result<T, Failure>,
    ) -> Result<T> {
        if matches!(
            asked,
            Ok(_) | Err(Failure::Refused(_) | Failure::TooOld { .. })
        ) {
            held.connection = Some(connection);
        }
        asked.map_err(|failure| self.explain(doing, failure))
    }

    fn greeted(&self, doing: &str) -> Result<Connection<Limited>> {
        let stream = socket::connect(&self.socket, &self.patience, &self.interrupt)
            .map_err(|why| self.unreachable(doing, why))?;
        Connection::greet(stream).map_err(|failure| match failure {
            // It hangs up on whom it does not want to serve.
            Failure::Closed | Failure::CutOff => self
                .error(Kind::Environment, doing, "it closed the connection at once")
                .hint("see whether its setting allowed-users has this user, and its log"),
            other => self.explain(doing, other),
        })
    }

    fn unreachable(&self, doing: &str, why: Unreachable) -> Error {
        match why {
            Unreachable::Nobody(why) => self.error(Kind::Environment, doing, why).hint(
                "is nix-daemon running? start it, or name its socket: lower-store=unix:///SOCKET",
            ),
            Unreachable::Forbidden(why) => self
                .error(Kind::Environment, doing, why)
                .hint("run as a user who may write to the socket and search its directories"),
            Unreachable::Interrupted => self.explain(doing, Failure::Interrupted),
            Unreachable::Full => self
                .error(Kind::Environment, doing, "it takes no connection")
                .hint("it is overloaded or hangs: see its log, or restart it"),
            Unreachable::Other(why) => self
                .error(Kind::Environment, doing, why)
                .hint("name the socket of nix-daemon: lower-store=unix:///SOCKET"),
        }
    }

    fn explain(&self, doing: &str, failure: Failure) -> Error {
        let of_machine = |why: &str| self.error(Kind::Environment, doing, why);
        match failure {
            Failure::Closed => of_machine("it closed the connection").hint("see its log; do it again"),
            Failure::CutOff => of_machine("it closed the connection in the middle of the answer")
                .hint("see its log; do it again"),
            Failure::Interrupted => of_machine("interrupted").caused_by(INTERRUPTED),
            Failure::Silent => of_machine("it does not answer")
                .hint("it is overloaded, waits for a lock, or hangs: see its log"),
            Failure::Endless => of_machine("its answer does not come to an end")
                .hint("it is overloaded: see its log; do it again"),
            Failure::Broken(why) => of_machine(&why.to_string()).hint("see the daemon's log"),
            Failure::Refused(why) => {
                of_machine(&format!("it answered: {why}")).hint("see the daemon's log")
            }
            Failure::Nonsense(why) => self
                .error(Kind::Corrupt, doing, format!("its answer makes no sense: {why}"))
                .hint("is this the socket of nix-daemon, and does its store use this store directory?"),
            Failure::TooOld { speaks, needs } => of_machine(&format!(
                "it speaks protocol {speaks}, and {needs} is needed"
            ))
            .hint("use a newer Nix for the daemon"),
        }
    }

    fn error(&self, kind: Kind, doing: &str, why: impl std::fmt::Display) -> Error {
        let socket = self.socket.as_os_str().as_encoded_bytes().escape_ascii();
        Error::new(kind, format!("{doing} at the daemon {socket}"), why)
    }
}

impl Source for Daemon {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        let doing = format!("ask for the path info of {name}");
        self.ask(&doing, |connection| connection.path_info(&self.dir, name))
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        let doing = format!("ask whether {name} is valid");
        self.ask(&doing, |connection| connection.is_valid(&self.dir, name))
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let doing = format!("ask for the referrers of {name}");
        self.ask(&doing, |connection| connection.referrers(&self.dir, name))
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let doing = format!("ask for the derivers of {name}");
        self.ask(&doing, |connection| {
            connection.valid_derivers(&self.dir, name)
        })
    }

    /// A daemon answers with an error about what is not valid or no derivation.
    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        if !drv.as_str().ends_with(".drv") {
            return Ok(Outputs::new());
        }
        let doing = format!("ask for the outputs of {drv}");
        self.ask(&doing, |connection| {
            match connection.is_valid(&self.dir, drv)? {
                true => connection.outputs(&self.dir, drv),
                false => Ok(Outputs::new()),
            }
        })
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        let digits = hash_part.bytes().all(base32::is_digit);
        if hash_part.len() != HASH_PART_BYTES || !digits {
            let what = format!("hash part {}", hash_part.escape_debug());
            return Err(Error::usage(what, "not 32 digits of a store hash"));
        }
        let doing = format!("ask for the object {hash_part}");
        self.ask(&doing, |connection| {
            connection.with_hash_part(&self.dir, hash_part)
        })
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        self.ask("ask for all valid objects", |connection| {
            connection.all_valid(&self.dir)
        })
    }
}

/// The NAR of an object, as the daemon sends it.
#[derive(Debug)]
pub struct Nar {
    stream: NarStream<Limited>,
    /// How much of the piece that there is time for has been read.
    piece: usize,
}

impl Read for Nar {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(bytes)?;
        self.piece += count;
        if self.piece >= NAR_PIECE {
            self.piece = 0;
            let (_, rest) = self.stream.get_mut();
            rest.get_mut().begin();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;
