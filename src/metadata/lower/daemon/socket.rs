// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a daemon's socket.
//!
//! Invariant: no system call on the socket waits for longer than was allowed, and all of them
//! together wait for no longer than a question may take.

use super::wire::Failure;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a daemon is waited for. Each message of it, and each part of an answer, starts the
/// times but the last anew: a daemon that has something to say is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For it to take the connection.
    pub connect: Duration,
    /// For it to take what is sent.
    pub send: Duration,
    /// For something to come. It may itself wait for a lock meanwhile.
    pub answer: Duration,
    /// For a question and its whole answer, whatever comes meanwhile, so that one that comes
    /// byte by byte ends too; so for the greeting, and for each [`NAR_PIECE`] of a NAR. What is
    /// done between the waits does not count.
    pub question: Duration,
}

/// A NAR may be of any size: the time of a question is for so much of it, in bytes.
pub const NAR_PIECE: usize = 64 << 10;

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            question: Duration::from_secs(600),
        }
    }
}

impl Patience {
    /// For who would rather know less than wait.
    pub fn short() -> Patience {
        Patience {
            connect: Duration::from_secs(2),
            send: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            question: Duration::from_secs(20),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unreachable {
    /// There is no socket, or nobody listens.
    Nobody(io::Error),
    /// This user may not.
    Forbidden(io::Error),
    /// Whoever listens takes no connection in time.
    Full,
    /// Anything else.
    Other(io::Error),
}

impl From<Errno> for Unreachable {
    fn from(errno: Errno) -> Unreachable {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED => Unreachable::Nobody(errno.into()),
            Errno::ACCESS | Errno::PERM => Unreachable::Forbidden(errno.into()),
            Errno::AGAIN | Errno::TIMEDOUT => Unreachable::Full,
            other => Unreachable::Other(other.into()),
        }
    }
}

/// Connects to the socket at `path`.
pub(super) fn connect(path: &Path, patience: &Patience) -> Result<Limited, Unreachable> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The limit on sending is that on connecting too.
    set_socket_timeout(&socket, Timeout::Send, Some(patience.connect))?;
    let (address, directory) = address(path)?;
    connect_to(&socket, &address)?;
    drop(directory);
    Ok(Limited {
        stream: UnixStream::from(socket),
        patience: *patience,
        left: patience.question,
    })
}

/// A connected socket that is waited for within limits.
#[derive(Debug)]
pub struct Limited {
    stream: UnixStream,
    patience: Patience,
    /// For how long it may still be waited.
    left: Duration,
}

impl Limited {
    /// Begins the time of a question.
    pub(super) fn begin(&mut self) {
        self.left = self.patience.question;
    }

    /// Tells the other side that nothing more will be asked.
    pub(super) fn end_questions(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Does what may wait, for no longer than `most` and what is left. What it says as the time of
    /// the question ends is [`ErrorKind::TimedOut`].
    fn wait<T>(
        &mut self,
        which: Timeout,
        most: Duration,
        act: impl FnOnce(&mut UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        set_socket_timeout(&self.stream, which, Some(most.min(self.left)))?;
        let begin = Instant::now();
        let done = act(&mut self.stream);
        self.left = self.left.saturating_sub(begin.elapsed());
        match done {
            Err(why) if why.kind() == ErrorKind::WouldBlock && self.left.is_zero() => {
                Err(ErrorKind::TimedOut.into())
            }
            done => done,
        }
    }
}

impl Read for Limited {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wait(Timeout::Recv, self.patience.answer, |stream| {
            stream.read(bytes)
        })
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(Timeout::Send, self.patience.send, |stream| {
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect_to(socket: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
    loop {
        match rustix::net::connect(socket, address) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Returns the address of a socket, and what must be open for it: a path that is too long for an
/// address is reached through its directory.
fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), Errno> {
    match SocketAddrUnix::new(path) {
        Err(Errno::NAMETOOLONG) => {}
        other => return Ok((other?, None)),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NAMETOOLONG);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(name);
    Ok((SocketAddrUnix::new(short)?, Some(directory)))
}

/// Checks that nothing has come since the last answer.
pub(super) fn at_rest(stream: &Limited) -> Result<(), Failure> {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(&stream.stream, &mut byte[..], flags) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN) | Ok((_, 0)) => Err(Failure::Closed),
        Err(other) => Err(Failure::Broken(other.into())),
        Ok(_) => Err(Failure::nonsense("it says more than it was asked")),
    }
}
