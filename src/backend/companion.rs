// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process beside the driver, for work that goes through the mounted view.
//!
//! The driver itself must never wait for its own mount: killed while it does, it could not end,
//! because the thread that waits keeps the connection open which the one that would have answered
//! has left. Invariant: the companion ends when the driver does, however that ends, and holds
//! nothing that the driver has opened.

use super::{best_effort, daemon};
use crate::error::{Error, Result};
use crate::sys::process::{close_other_files, fork_detached};
use crate::sys::signals::{self, Signal};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the driver says once the view is mounted.
const MOUNTED: u8 = b'M';

/// How long the work may go on after it was told to end.
const GRACE: Duration = Duration::from_secs(1);

/// How long the driver waits for the companion's end.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the companion does; it begins before the view is mounted.
pub type Work<'a> = Box<dyn FnOnce(&mut Course) + 'a>;

/// What the driver does meanwhile, seen from the companion.
#[derive(Debug)]
pub struct Course {
    channel: UnixStream,
    over: Arc<AtomicBool>,
}

impl Course {
    /// Waits until the view is mounted; `false` if it never will be.
    ///
    /// From then on the process ends by itself soon after the driver's end.
    pub fn mounted(&mut self) -> Result<bool> {
        let failed = |why| Error::environment("wait for the mount", why);
        let mut said = [0];
        if self.channel.read(&mut said).map_err(failed)? == 0 {
            return Ok(false);
        }
        let mut channel = self.channel.try_clone().map_err(failed)?;
        let over = Arc::clone(&self.over);
        let wait = move || {
            best_effort(
                "wait for the driver's end",
                channel.read(&mut [0]).map(drop),
            );
            over.store(true, Ordering::Relaxed);
            give_up_after(GRACE);
        };
        let started = thread::Builder::new().name("end".to_owned()).spawn(wait);
        started.map(|_| true).map_err(failed)
    }

    /// Returns what is set once the work is to end.
    pub fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
    }

    /// Returns what can be read from once the work is to end.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// Ends the process after `patience`, unless its work has ended before.
fn give_up_after(patience: Duration) -> ! {
    let deadline = Instant::now() + patience;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
    std::process::exit(0)
}

/// The companion, seen from the driver.
#[derive(Debug)]
pub(super) struct Companion {
    channel: UnixStream,
}

impl Companion {
    /// Starts `work` in a process of its own. `left` is given by a driver in the background: the
    /// companion then lets go of standard error at once.
    pub(super) fn start(left: Option<fn()>, work: Work<'_>) -> Result<Companion> {
        let failed = |why| Error::environment("start the process beside the driver", why);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        fork_detached(|| live(&theirs, left, work)).map_err(failed)?;
        Ok(Companion { channel: ours })
    }

    /// Returns another handle of the same process.
    pub(super) fn again(&self) -> Result<Companion> {
        let channel = self.channel.try_clone();
        let channel = channel.map_err(|why| Error::environment("copy a descriptor", why))?;
        Ok(Companion { channel })
    }

    /// Tells that the view is mounted.
    pub(super) fn mounted(&self) {
        let mut channel = &self.channel;
        best_effort("tell of the mount", channel.write_all(&[MOUNTED]));
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let answer = rustix::net::recv(&self.channel, &mut [0_u8; 1], flags);
        matches!(answer, Err(Errno::AGAIN))
    }

    /// Has it end, and waits for that, not for long.
    pub(super) fn dismiss(&self) {
        let mut channel = &self.channel;
        let end = match channel.shutdown(Shutdown::Write) {
            // It has ended before.
            Err(why) if why.kind() == io::ErrorKind::NotConnected => return,
            Err(why) => Err(why),
            Ok(()) => channel
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| channel.read(&mut [0]).map(drop)),
        };
        best_effort("wait for the end of the process beside the driver", end);
    }
}

/// The whole life of the companion.
fn live(channel: &UnixStream, left: Option<fn()>, work: Work<'_>) -> u8 {
    let course = settle(channel, left).and_then(|()| channel.try_clone());
    match course {
        Ok(channel) => {
            work(&mut Course {
                channel,
                over: Arc::default(),
            });
            0
        }
        Err(why) => {
            log::error!("{}", Error::environment("settle beside the driver", why));
            3
        }
    }
}

/// Leaves everything behind that belongs to the driver.
fn settle(channel: &UnixStream, left: Option<fn()>) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    close_other_files(&[channel.as_fd()])?;
    let null = daemon::null().map_err(io::Error::other)?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    if let Some(left) = left {
        rustix::stdio::dup2_stderr(&null)?;
        left();
    }
    // Whoever ends a whole group means the driver, which has this process end in time.
    let ignored = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ];
    signals::ignore(&ignored)?;
    best_effort(
        "name the process",
        rustix::thread::set_name(c"overstore-rec"),
    );
    Ok(())
}
