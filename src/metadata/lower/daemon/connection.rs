// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to a daemon: the greeting, and the messages that come before every answer.
//!
//! Invariant: nothing is asked before the last answer has been read to its end.

use super::wire::{
    self, Failure, ITEMS_MAX, MESSAGE_MAX, Message, PIECE, TEXT_MAX, Version, count, number,
};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

/// What each side says first.
const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;

/// The newest version that is spoken here.
pub const NEWEST: Version = Version::one(38);
/// The oldest version that is spoken here.
pub const OLDEST: Version = Version::one(18);

/// From which version on what is said.
const WITH_FEATURES: Version = Version::one(38);
const WITH_TRUST: Version = Version::one(35);
const WITH_NAME: Version = Version::one(33);
const WITH_WHOLE_ERRORS: Version = Version::one(26);

/// The messages before an answer.
const LAST: u64 = 0x616c_7473;
pub(super) const ERROR: u64 = 0x6378_7470;
const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// A connection over the stream `S`, greeted.
#[derive(Debug)]
pub struct Connection<S> {
    stream: BufReader<S>,
    version: Version,
}

impl<S: Read + Write> Connection<S> {
    /// Greets the daemon and agrees on a version. No optional feature is offered.
    pub fn greet(stream: S) -> Result<Connection<S>, Failure> {
        let mut connection = Connection {
            stream: BufReader::with_capacity(PIECE, stream),
            version: OLDEST,
        };
        connection.send(&Message::of(CLIENT_MAGIC).number(NEWEST.0))?;
        connection.await_answer()?;
        let magic = number(&mut connection.stream)?;
        if magic != DAEMON_MAGIC {
            let what = format!("it greets with {magic:#x}, so it is no Nix daemon");
            return Err(Failure::Nonsense(what));
        }
        connection.version = agree(Version(number(&mut connection.stream)?))?;
        if connection.version >= WITH_FEATURES {
            connection.send(&Message::of(0))?;
            for _ in 0..count(&mut connection.stream, ITEMS_MAX)? {
                wire::skip(&mut connection.stream, TEXT_MAX)?;
            }
        }
        // No processor is asked for, and no space reserved.
        connection.send(&Message::of(0).number(0))?;
        if connection.version >= WITH_NAME {
            let name = wire::bytes(&mut connection.stream, TEXT_MAX)?;
            log::debug!("the daemon is Nix {}", name.escape_ascii());
        }
        if connection.version >= WITH_TRUST {
            number(&mut connection.stream)?;
        }
        connection.messages()?;
        Ok(connection)
    }

    /// Returns the version agreed on.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the stream that the answers come from.
    pub fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    /// Asks a question; what is returned has the answer next.
    ///
    /// # Errors
    /// After anything but [`Failure::Refused`] and [`Failure::TooOld`] the connection is of no use.
    pub fn ask(&mut self, question: &Message) -> Result<&mut BufReader<S>, Failure> {
        if !self.stream.buffer().is_empty() {
            return Err(Failure::nonsense("it says more than it was asked"));
        }
        self.send(question)?;
        self.await_answer()?;
        self.messages()?;
        Ok(&mut self.stream)
    }

    /// Refuses a question that the daemon does not know.
    pub fn needs(&self, needs: Version) -> Result<(), Failure> {
        match self.version >= needs {
            true => Ok(()),
            false => Err(Failure::TooOld {
                speaks: self.version,
                needs,
            }),
        }
    }

    /// Returns what has not been read yet.
    pub(super) fn stream_mut(&mut self) -> &mut BufReader<S> {
        &mut self.stream
    }

    /// Gives up the connection; what has not been read yet comes next.
    pub fn into_stream(self) -> BufReader<S> {
        self.stream
    }

    fn send(&mut self, message: &Message) -> Result<(), Failure> {
        let stream = self.stream.get_mut();
        match stream
            .write_all(message.bytes())
            .and_then(|()| stream.flush())
        {
            Err(error) if is_closed(error.kind()) => Err(Failure::Closed),
            other => Ok(other?),
        }
    }

    /// Waits for the first byte: without one, nothing was answered at all.
    fn await_answer(&mut self) -> Result<(), Failure> {
        loop {
            return match self.stream.fill_buf() {
                Ok([]) => Err(Failure::Closed),
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_closed(error.kind()) => Err(Failure::Closed),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Reads messages until the one that says that the answer comes.
    fn messages(&mut self) -> Result<(), Failure> {
        loop {
            let stream = &mut self.stream;
            match number(stream)? {
                LAST => return Ok(()),
                ERROR => return Err(self.error()?),
                NEXT => {
                    let line = wire::bytes(stream, MESSAGE_MAX)?;
                    log::debug!("daemon: {}", line.trim_ascii_end().escape_ascii());
                }
                // What it would store: there is nothing, which an empty string says.
                READ => {
                    number(stream)?;
                    self.send(&Message::of(0))?;
                }
                WRITE => wire::skip(stream, MESSAGE_MAX)?,
                START_ACTIVITY => {
                    for _ in ["id", "level", "type"] {
                        number(stream)?;
                    }
                    wire::skip(stream, MESSAGE_MAX)?;
                    fields(stream)?;
                    let _parent = number(stream)?;
                }
                STOP_ACTIVITY => drop(number(stream)?),
                RESULT => {
                    for _ in ["id", "type"] {
                        number(stream)?;
                    }
                    fields(stream)?;
                }
                other => return Err(Failure::Nonsense(format!("{other:#x} is no message"))),
            }
        }
    }

    /// Reads an error of either form.
    pub(super) fn error(&mut self) -> Result<Failure, Failure> {
        let stream = &mut self.stream;
        let whole = self.version >= WITH_WHOLE_ERRORS;
        if whole {
            wire::skip(stream, TEXT_MAX)?;
            let _level = number(stream)?;
            wire::skip(stream, TEXT_MAX)?;
        }
        let message = wire::bytes(stream, MESSAGE_MAX)?;
        // A position, which is none, or the status to end with.
        number(stream)?;
        if whole {
            for _ in 0..count(stream, ITEMS_MAX)? {
                number(stream)?;
                wire::skip(stream, MESSAGE_MAX)?;
            }
        }
        Ok(Failure::Refused(one_line(&message)))
    }
}

fn agree(theirs: Version) -> Result<Version, Failure> {
    if theirs.major() != NEWEST.major() {
        let what = format!("it speaks protocol {theirs}, and only protocol 1 is known");
        return Err(Failure::Nonsense(what));
    }
    match theirs >= OLDEST {
        true => Ok(theirs.min(NEWEST)),
        false => Err(Failure::TooOld {
            speaks: theirs,
            needs: OLDEST,
        }),
    }
}

fn fields(stream: &mut impl Read) -> Result<(), Failure> {
    for _ in 0..count(stream, ITEMS_MAX)? {
        match number(stream)? {
            0 => drop(number(stream)?),
            1 => wire::skip(stream, MESSAGE_MAX)?,
            other => return Err(Failure::Nonsense(format!("{other} is no kind of field"))),
        }
    }
    Ok(())
}

/// Whether an error of the system says that nobody is at the other end.
fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

/// How much of a message is shown.
const SHOWN_BYTES: usize = 2000;

/// Makes one line of a message for people: without colours and line breaks.
fn one_line(message: &[u8]) -> String {
    let shown = &message[..message.len().min(SHOWN_BYTES)];
    let chunks = shown.utf8_chunks();
    let text: String = chunks.map(|chunk| chunk.valid()).collect();
    let mut line = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' && letters.next_if_eq(&'[').is_some() {
            letters.find(|letter| ('@'..='~').contains(letter));
        } else {
            line.push(if letter.is_control() { ' ' } else { letter });
        }
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
