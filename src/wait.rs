// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for locks and for answers.
//!
//! Invariant: a wait that is not over after a second is told of once, and ends when it is
//! interrupted. A lock that waits is asked for again and again: a blocking flock(2) would start
//! anew after a signal whose handler only sets a flag.
//!
//! It is a room of its own because `roots` and `metadata`, neither of which knows the other, wait alike.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::thread::{NanosleepRelativeResult, nanosleep};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When a wait is told of.
pub const NOTICE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What ends the waits of this process before their time. By default nothing but the end of the
/// process, which is what a signal means to a program that does not handle it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Option<Arc<AtomicBool>>);

impl Interrupt {
    /// Never interrupts.
    pub fn never() -> Interrupt {
        Interrupt(None)
    }

    /// Interrupts once `flag` is set.
    pub fn when(flag: Arc<AtomicBool>) -> Interrupt {
        Interrupt(Some(flag))
    }

    /// Has SIGINT, SIGTERM and SIGHUP interrupt from now on, instead of ending the process.
    pub fn on_signals() -> Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|why| Error::environment("handle signals", why))?;
        }
        Ok(Interrupt(Some(flag)))
    }

    /// Tells whether the time has come.
    pub fn is_set(&self) -> bool {
        let flag = self.0.as_ref();
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Fails if the time has come; `what` was being done.
    pub fn check(&self, what: &str) -> Result<()> {
        match self.is_set() {
            true => Err(Error::environment(what, "interrupted").caused_by(INTERRUPTED)),
            false => Ok(()),
        }
    }
}

const INTERRUPTED: i32 = Errno::INTR.raw_os_error();

/// One wait in progress.
#[derive(Debug)]
pub struct Wait<'a> {
    what: String,
    why: &'static str,
    interrupt: &'a Interrupt,
    since: Instant,
    told: bool,
    pause: Duration,
}

impl<'a> Wait<'a> {
    /// Begins to wait; `what` completes "waiting to ...".
    pub fn to(what: String, interrupt: &'a Interrupt) -> Wait<'a> {
        Wait {
            what,
            why: "",
            interrupt,
            since: Instant::now(),
            told: false,
            pause: FIRST_PAUSE,
        }
    }

    /// Notes why, where that is known: it follows ", " in what is told.
    #[must_use]
    pub fn because(mut self, why: &'static str) -> Wait<'a> {
        self.why = why;
        self
    }

    /// Tells of the wait if it lasts, and fails if it is interrupted.
    pub fn goes_on(&mut self) -> Result<()> {
        if !self.told && self.since.elapsed() >= NOTICE {
            self.told = true;
            match self.why {
                "" => log::warn!("waiting to {}...", self.what),
                why => log::warn!("waiting to {}, {why}...", self.what),
            }
        }
        self.interrupt.check(&self.what)
    }

    /// Lets a little time pass, more each time.
    pub fn pause(&mut self) -> Result<()> {
        self.goes_on()?;
        nap(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.goes_on()
    }
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Together with others.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes the lock of the open `file` if nobody keeps it; answers whether it did.
pub fn try_lock(file: impl AsFd, path: &Path, hold: Hold) -> Result<bool> {
    let operation = match hold {
        Hold::Shared => FlockOperation::NonBlockingLockShared,
        Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        return match flock(&file, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(Errno::INTR) => continue,
            Err(why) => {
                Err(Error::on("lock", path, std::io::Error::from(why))
                    .caused_by(why.raw_os_error()))
            }
        };
    }
}

/// Takes the lock of the open `file`, called `name` where the wait for it is told of.
pub fn lock(
    file: impl AsFd,
    path: &Path,
    hold: Hold,
    name: &str,
    interrupt: &Interrupt,
) -> Result<()> {
    if try_lock(&file, path, hold)? {
        return Ok(());
    }
    let what = format!("take {name} {}", path.display());
    let mut wait = Wait::to(what, interrupt).because("held by another process");
    while !try_lock(&file, path, hold)? {
        wait.pause()?;
    }
    Ok(())
}

/// Lets about `time` pass; a signal may end it early.
pub fn nap(time: Duration) {
    let Ok(time) = rustix::thread::Timespec::try_from(time) else {
        return;
    };
    if let NanosleepRelativeResult::Err(why) = nanosleep(&time) {
        log::debug!("cannot wait: {why}");
    }
}
