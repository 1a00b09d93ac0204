// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other end of a connection, for tests: it reads what it expects and answers what it is told.

use super::wire::{Message, Version};
use super::{Daemon, Patience};
use crate::store::{ObjectName, StoreDir};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

pub(super) const LAST: u64 = 0x616c_7473;
pub(super) const ERROR: u64 = 0x6378_7470;

pub(super) const HASH: &str = "bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0";

pub(super) fn dir() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).unwrap()
}

pub(super) fn object(name: &str) -> ObjectName {
    ObjectName::parse(format!("{HASH}-{name}").as_bytes()).unwrap()
}

pub(super) fn path(name: &str) -> Vec<u8> {
    format!("/nix/store/{HASH}-{name}").into_bytes()
}

/// A question about one object.
pub(super) fn about(operation: u64, name: &str) -> Message {
    Message::of(operation).string(&path(name))
}

/// What a daemon of this version says first, until the client's first question.
pub(super) fn greeting(version: Version) -> Vec<u8> {
    let mut says = Message::of(0x6478_696f).number(version.0);
    if version >= Version::one(38) {
        says = says.number(1).string(b"some-feature");
    }
    if version >= Version::one(33) {
        says = says.string(b"2.34.8");
    }
    if version >= Version::one(35) {
        says = says.number(1);
    }
    says.number(LAST).bytes().to_vec()
}

/// An error as it is sent since 1.26.
pub(super) fn error(message: &str) -> Message {
    let head = Message::of(ERROR)
        .string(b"Error")
        .number(0)
        .string(b"Error");
    let traces = head.string(message.as_bytes()).number(0).number(2);
    let traces = traces.number(0).string(b"while trying");
    traces.number(0).string(b"while asking")
}

/// One connection, as the other end sees it.
pub(super) struct Peer(pub(super) UnixStream);

impl Peer {
    /// Reads what the client says first, and greets it.
    pub(super) fn greet(&mut self, version: Version) {
        self.expects(&Message::of(0x6e69_7863).number(0x126));
        self.says(&greeting(version));
        if version >= Version::one(38) {
            self.expects(&Message::of(0));
        }
        self.expects(&Message::of(0).number(0));
    }

    #[track_caller]
    pub(super) fn expects(&mut self, question: &Message) {
        let mut found = vec![0; question.bytes().len()];
        self.0.read_exact(&mut found).unwrap();
        assert_eq!(
            found.escape_ascii().to_string(),
            question.bytes().escape_ascii().to_string()
        );
    }

    pub(super) fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(super) fn answers(&mut self, question: &Message, answer: &Message) {
        self.expects(question);
        self.says(answer.bytes());
    }

    /// Waits until the client has hung up.
    pub(super) fn is_left(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

/// A socket with somebody behind it.
pub(super) struct Served {
    dir: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Has `play` serve each connection.
    pub(super) fn by(play: impl FnOnce(&UnixListener) + Send + 'static) -> Served {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let thread = std::thread::spawn(move || play(&listener));
        Served {
            dir,
            thread: Some(thread),
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(super) fn daemon(&self) -> Daemon {
        Daemon::new(&self.socket(), dir(), Patience::default())
    }

    /// A client that loses patience at once.
    pub(super) fn impatient(&self) -> Daemon {
        let short = Duration::from_millis(20);
        let patience = Patience {
            connect: short,
            send: short,
            answer: short,
            ..Patience::default()
        };
        Daemon::new(&self.socket(), dir(), patience)
    }

    /// Waits for the other end, which fails the test where it was surprised.
    pub(super) fn end(mut self) {
        let thread = self.thread.take().unwrap();
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Takes the next connection.
pub(super) fn next(listener: &UnixListener) -> Peer {
    Peer(listener.accept().unwrap().0)
}

pub(super) const NOW: Version = Version::one(38);

/// What follows the end of the messages.
pub(super) fn answer() -> Message {
    Message::of(LAST)
}

pub(super) fn set(mut message: Message, names: &[&str]) -> Message {
    message = message.number(names.len() as u64);
    for name in names {
        message = message.string(&path(name));
    }
    message
}

/// Serves one connection in which each question is answered.
pub(super) fn talk(version: Version, pairs: Vec<(Message, Message)>) -> Served {
    Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(version);
        for (question, answer) in &pairs {
            peer.answers(question, answer);
        }
        peer.is_left();
    })
}

pub(super) fn is_valid() -> Message {
    about(1, "a")
}
