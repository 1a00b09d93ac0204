// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of the names in both top directories, as inotify tells them.
//!
//! Invariant: a change is in the queue when the system call that made it has returned, so an empty
//! queue means that everything before was told.

use super::{Errno, LayerId, Result, Tree, markers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Both top directories, watched.
#[derive(Debug)]
pub struct Watch {
    queue: OwnedFd,
    upper: i32,
    lower: i32,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A name came, went, or its object changed its attributes.
    Name(LayerId, &'a [u8]),
    /// More happened than the queue could hold: anything may have changed.
    Overflow,
    /// A top directory itself is gone or unmounted.
    Lost(LayerId),
}

impl Watch {
    /// Starts watching.
    ///
    /// # Errors
    /// `OPNOTSUPP` where a layer is on a filesystem that others change unseen.
    pub fn start(upper: &Tree, lower: &Tree) -> Result<Watch> {
        for tree in [upper, lower] {
            if !tree.filesystem().is_local() {
                return Err(Errno::OPNOTSUPP);
            }
        }
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let names = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let add = |tree: &Tree, flags| {
            inotify::add_watch(&queue, markers::proc_path(tree.root().as_fd()), flags)
        };
        let upper = add(upper, names)?;
        // Attributes tell that another Nix has finished an object.
        let lower = add(lower, names | WatchFlags::ATTRIB)?;
        Ok(Watch {
            queue,
            upper,
            lower,
        })
    }

    /// Waits until something happened, `wake` can be read, or so much time is over.
    pub fn wait(&self, wake: BorrowedFd<'_>, limit: Option<Duration>) -> Result<()> {
        let mut ready = [
            PollFd::new(&self.queue, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
        ];
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut ready, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Calls `each` with everything that is in the queue now; what comes meanwhile may be left.
    pub fn drain(&self, mut each: impl FnMut(Change<'_>)) -> Result<()> {
        let mut left = rustix::io::ioctl_fionread(&self.queue)?;
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        while left > 0 || !events.is_buffer_empty() {
            let event = match events.next() {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                event => event?,
            };
            left = left.saturating_sub(size(&event));
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                each(Change::Overflow);
                continue;
            }
            let Some(layer) = self.layer(event.wd()) else {
                continue;
            };
            match event.file_name() {
                Some(name) => each(Change::Name(layer, name.to_bytes())),
                None if flags.intersects(gone()) => each(Change::Lost(layer)),
                None => {}
            }
        }
        Ok(())
    }

    fn layer(&self, watch: i32) -> Option<LayerId> {
        match watch {
            _ if watch == self.upper => Some(LayerId::Upper),
            _ if watch == self.lower => Some(LayerId::Lower),
            _ => None,
        }
    }
}

/// Bytes that an event takes in the queue: its head, and its name filled up with NULs to the size
/// of the head.
fn size(event: &inotify::Event<'_>) -> u64 {
    const HEAD: usize = size_of::<libc::inotify_event>();
    let name = event.file_name();
    let name = name.map_or(0, |name| name.to_bytes_with_nul().len());
    (HEAD + name.next_multiple_of(HEAD)) as u64
}

fn gone() -> ReadFlags {
    ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED
}
