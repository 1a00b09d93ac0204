// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of the names in both top directories, as inotify tells them.
//!
//! Invariant: a change is in the queue when the system call that made it has returned, so an empty
//! queue means that everything before was told.

use super::{Errno, LayerId, Result, Tree, markers};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

    /// Waits until something happened or `wake` can be read.
    pub fn wait(&self, wake: BorrowedFd<'_>) -> Result<()> {
        let mut ready = [
            PollFd::new(&self.queue, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Calls `each` with everything that is in the queue now.
    pub fn drain(&self, mut each: impl FnMut(Change<'_>)) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match events.next() {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                event => event?,
            };
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
    }

    fn layer(&self, watch: i32) -> Option<LayerId> {
        match watch {
            _ if watch == self.upper => Some(LayerId::Upper),
            _ if watch == self.lower => Some(LayerId::Lower),
            _ => None,
        }
    }
}

fn gone() -> ReadFlags {
    ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED
}
