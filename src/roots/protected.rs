// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a running collector must not delete, and what it is deleting.
//!
//! Invariant: an object is never both protected and being deleted without whoever protects it
//! knowing: both are decided under one lock.

use super::HashPart;
use crate::error::{Error, Result};
use crate::store::ObjectName;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The hash parts that are kept, shared by the collector and its server.
#[derive(Debug, Clone)]
pub struct Protected(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Readable when a deletion ended.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    kept: HashSet<HashPart>,
    /// How many objects with the hash part are being deleted.
    pending: HashMap<HashPart, usize>,
}

/// An object that is being deleted; whoever asks for it waits until this is dropped.
#[derive(Debug)]
pub struct Deleting {
    of: Protected,
    hash_part: HashPart,
}

impl Protected {
    /// Begins with what is kept already.
    pub fn new(kept: impl IntoIterator<Item = HashPart>) -> Result<Protected> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags)
            .map_err(|why| Error::environment("create an event", std::io::Error::from(why)))?;
        let state = State {
            kept: kept.into_iter().collect(),
            pending: HashMap::new(),
        };
        let state = Mutex::new(state);
        Ok(Protected(Arc::new(Inner { state, bell })))
    }

    /// Keeps more.
    pub fn extend(&self, more: impl IntoIterator<Item = HashPart>) {
        self.0.state.lock().kept.extend(more);
    }

    /// Tells whether objects with this hash part are kept.
    pub fn is_protected(&self, hash_part: HashPart) -> bool {
        self.0.state.lock().kept.contains(&hash_part)
    }

    /// Begins to delete `object`; `None` if it is kept, maybe since a moment ago.
    pub fn begin_delete(&self, object: &ObjectName) -> Option<Deleting> {
        let hash_part = HashPart::of(object);
        let mut state = self.0.state.lock();
        if state.kept.contains(&hash_part) {
            return None;
        }
        *state.pending.entry(hash_part).or_default() += 1;
        drop(state);
        let of = self.clone();
        Some(Deleting { of, hash_part })
    }

    /// Keeps `hash_part`; answers whether it is free to be used, and not just being deleted.
    pub(super) fn keep(&self, hash_part: HashPart) -> bool {
        let mut state = self.0.state.lock();
        state.kept.insert(hash_part);
        !state.pending.contains_key(&hash_part)
    }

    /// Tells whether objects with this hash part are being deleted.
    pub(super) fn is_pending(&self, hash_part: HashPart) -> bool {
        self.0.state.lock().pending.contains_key(&hash_part)
    }

    /// Returns what can be read when there is news for the server.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    /// Wakes the server.
    pub(super) fn ring(&self) {
        // A full counter is news as well.
        if let Err(why) = write(&self.0.bell, &1u64.to_ne_bytes()) {
            log::debug!("ring: {why}");
        }
    }

    /// Takes note of the news.
    pub(super) fn heard(&self) {
        match read(&self.0.bell, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(why) => log::debug!("hear: {why}"),
        }
    }
}

impl Drop for Deleting {
    fn drop(&mut self) {
        let mut state = self.of.0.state.lock();
        if let Some(count) = state.pending.get_mut(&self.hash_part) {
            *count -= 1;
            if *count == 0 {
                state.pending.remove(&self.hash_part);
            }
        }
        drop(state);
        self.of.ring();
    }
}
