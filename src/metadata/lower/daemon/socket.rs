// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a daemon's socket.
//!
//! Invariant: no system call on the socket waits for longer than was allowed, and all of them
//! together wait for no longer than a question may take.

use super::wire::{Failure, Stop, stopped};
use crate::wait::{Interrupt, NOTICE};
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
    /// For so many bytes of an answer, with all that comes before it: each list and each string in it
    /// has a limit of its own, but there may be many.
    pub bytes: u64,
}

/// Room for some six million store paths.
const ANSWER_BYTES: u64 = 512 << 20;

/// How long one system call waits before it is seen whether it is to end: not every signal reaches
/// the thread that waits.
const SLICE: Duration = Duration::from_millis(100);

/// A NAR may be of any size: the time of a question is for so much of it, in bytes.
pub const NAR_PIECE: usize = 64 << 10;

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            question: Duration::from_secs(600),
            bytes: ANSWER_BYTES,
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
            bytes: ANSWER_BYTES,
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
    /// Whoever waits was told to end.
    Interrupted,
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
pub(super) fn connect(
    path: &Path,
    patience: &Patience,
    interrupt: &Interrupt,
) -> Result<Limited, Unreachable> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let (address, directory) = address(path)?;
    let mut watch = Watch::new(path, interrupt);
    connect_to(&socket, &address, patience.connect, &mut watch)?;
    drop(directory);
    Ok(Limited {
        stream: UnixStream::from(socket),
        patience: *patience,
        left: patience.question,
        bytes_left: patience.bytes,
        watch,
    })
}

/// A connected socket that is waited for within limits.
#[derive(Debug)]
pub struct Limited {
    stream: UnixStream,
    patience: Patience,
    /// For how long it may still be waited.
    left: Duration,
    /// How much may still come.
    bytes_left: u64,
    watch: Watch,
}

/// What happens beside a wait: it is told of once, and may be told to end.
#[derive(Debug)]
struct Watch {
    socket: PathBuf,
    interrupt: Interrupt,
    told: bool,
}

impl Watch {
    fn new(socket: &Path, interrupt: &Interrupt) -> Watch {
        Watch {
            socket: socket.to_owned(),
            interrupt: interrupt.clone(),
            told: false,
        }
    }

    /// Answers whether a wait that has lasted for `waited` is to end.
    fn is_over(&mut self, waited: Duration) -> bool {
        if !self.told && waited >= NOTICE {
            self.told = true;
            let socket = self.socket.as_os_str().as_encoded_bytes().escape_ascii();
            log::warn!("waiting for the daemon at {socket}, which does not answer yet...");
        }
        self.interrupt.is_set()
    }
}

impl Limited {
    /// Begins the time of a question.
    pub(super) fn begin(&mut self) {
        self.left = self.patience.question;
        self.bytes_left = self.patience.bytes;
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
        mut act: impl FnMut(&mut UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut waited = Duration::ZERO;
        loop {
            if self.left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            if self.watch.is_over(waited) {
                return Err(stopped(Stop::Interrupted));
            }
            // The kernel takes 0 for no limit.
            let slice = SLICE.min(most.saturating_sub(waited)).min(self.left);
            let slice = slice.max(Duration::from_micros(1));
            set_socket_timeout(&self.stream, which, Some(slice))?;
            let begin = Instant::now();
            let done = act(&mut self.stream);
            let elapsed = begin.elapsed();
            self.left = self.left.saturating_sub(elapsed);
            waited += elapsed;
            match done {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() != ErrorKind::WouldBlock => return Err(why),
                Err(why) if waited >= most && !self.left.is_zero() => return Err(why),
                Err(_) => {}
                Ok(done) => return Ok(done),
            }
        }
    }
}

impl Read for Limited {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.bytes_left == 0 {
            return Err(stopped(Stop::TooMuch(self.patience.bytes)));
        }
        let most =
            usize::try_from(self.bytes_left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let count = self.wait(Timeout::Recv, self.patience.answer, |stream| {
            stream.read(&mut bytes[..most])
        })?;
        self.bytes_left = self.bytes_left.saturating_sub(count as u64);
        Ok(count)
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

/// Connects within the time `most`: a daemon whose queue is full may take it a little later.
fn connect_to(
    socket: &OwnedFd,
    address: &SocketAddrUnix,
    most: Duration,
    watch: &mut Watch,
) -> Result<(), Unreachable> {
    let begin = Instant::now();
    loop {
        let waited = begin.elapsed();
        if watch.is_over(waited) {
            return Err(Unreachable::Interrupted);
        }
        // The limit on sending is that on connecting too.
        let slice = SLICE.min(most.saturating_sub(waited));
        let slice = slice.max(Duration::from_micros(1));
        set_socket_timeout(socket, Timeout::Send, Some(slice))?;
        match rustix::net::connect(socket, address) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if begin.elapsed() < most => {}
            other => return Ok(other?),
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
