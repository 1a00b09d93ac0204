// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room on the upper's filesystem that a removal is just giving back.
//!
//! A removed object is held until the kernel forgets it, which it does at once, but not before the
//! caller goes on. Invariant: "no space" is not answered because of that moment.

use super::Outcome;
use crate::layer::Errno;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A removal gives its room back within this time, if nobody has the object open.
const RECENT: Duration = Duration::from_millis(500);
/// How often and how long a writer waits for it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Remembers when something was last removed.
#[derive(Debug)]
pub(super) struct Room {
    start: Instant,
    /// Milliseconds from `start`, plus one; 0 is never.
    removed: AtomicU64,
}

impl Room {
    pub(super) fn new() -> Room {
        Room {
            start: Instant::now(),
            removed: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Remembers a removal.
    pub(super) fn removed(&self) {
        self.removed.store(self.now(), Ordering::Relaxed);
    }

    fn was_recent(&self) -> bool {
        let removed = self.removed.load(Ordering::Relaxed);
        let age = Duration::from_millis(self.now().saturating_sub(removed));
        removed != 0 && age < RECENT
    }

    /// Runs an operation again as long as it finds no room and some may be on its way.
    pub(super) fn wait_for<T>(&self, mut operation: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        for _ in 0..TRIES {
            match operation() {
                Err(Errno::NOSPC) if self.was_recent() => thread::park_timeout(PAUSE),
                other => return other,
            }
        }
        operation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_at_once_and_a_removal_is_waited_for() {
        let room = Room::new();
        let mut calls = 0;
        let full = |calls: &mut u32, until: u32| {
            *calls += 1;
            if *calls > until {
                Ok(())
            } else {
                Err(Errno::NOSPC)
            }
        };
        assert_eq!(room.wait_for(|| full(&mut calls, 9)), Err(Errno::NOSPC));
        assert_eq!(calls, 1);
        room.removed();
        assert_eq!(room.wait_for(|| full(&mut calls, 3)), Ok(()));
    }
}
