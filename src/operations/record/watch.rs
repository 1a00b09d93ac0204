// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to the names at the top of the upper directory, as inotify tells it.
//!
//! Invariant: whatever completes an object is told: a name that came, or a change of the attributes
//! of the object itself.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes asked of one read.
const BUFFER_BYTES: usize = 16 * 1024;

/// The directory, watched.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// To this name.
    Name(&'a [u8]),
    /// More than the queue could hold.
    Overflow,
    /// To the directory itself: it was removed, moved or unmounted.
    Gone,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn start(dir: BorrowedFd<'_>) -> Result<Watch> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let names = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&queue, format!("/proc/self/fd/{}", dir.as_raw_fd()), names)?;
        Ok(Watch(queue))
    }

    /// Waits until something happened, or so much time is over; `true` once `end` can be read.
    pub(super) fn wait(&self, end: BorrowedFd<'_>, limit: Option<Duration>) -> Result<bool> {
        let mut ready = [
            PollFd::new(&self.0, PollFlags::IN),
            PollFd::from_borrowed_fd(end, PollFlags::IN),
        ];
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut ready, limit.as_ref()) {
            Ok(_) => Ok(!ready[1].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Calls `each` with everything that is in the queue.
    pub(super) fn drain(&self, mut each: impl FnMut(Event<'_>)) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            let event = match events.next() {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                event => event?,
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                each(Event::Overflow);
            } else if let Some(name) = event.file_name() {
                each(Event::Name(name.to_bytes()));
            } else if flags.intersects(gone()) {
                each(Event::Gone);
            }
        }
    }
}

fn gone() -> ReadFlags {
    ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED
}

/// Lists a directory.
pub(super) fn list(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Another description of it, which begins at the top.
    let dir = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        names.push(entry?.file_name().to_bytes().to_vec());
    }
    Ok(names)
}
