// SPDX-License-Identifier: MIT OR Apache-2.0
//! A view whose layers change without telling: what it may promise, and its listing of the top.
//!
//! Names expire by themselves, but whoever lists the top without asking for its attributes first
//! (musl, Go) never makes the kernel ask again. So a thread looks at both top directories as long
//! as the kernel may hold a listing. Invariant: the times that were last seen are from before any
//! listing that the kernel may still hold, or the kernel was told since.

use super::node::NodeId;
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Timestamp, Tree};
use parking_lot::{Condvar, Mutex};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// The shortest time between two looks, whatever the lifetime.
const SHORTEST: Duration = Duration::from_millis(50);

/// How long the kernel is told to trust what must not be shown longer than `promised`: it rounds
/// up to its clock's ticks, and counts from when the answer arrives.
pub(super) fn lifetime(promised: Duration) -> Duration {
    promised / 8 * 7
}

/// When both top directories last changed.
#[derive(Debug, PartialEq, Eq)]
struct Seen([(Timestamp, Timestamp); 2]);

/// What is known of the top directories without watching.
#[derive(Debug, Default)]
pub(super) struct Glances {
    /// `None` if they may have changed since without a sign.
    seen: Mutex<Option<Seen>>,
    /// Whether a listing was handed out since the kernel was last told to drop it.
    listed: Mutex<bool>,
    wake: Condvar,
}

impl Glances {
    fn wait_until_listed(&self) {
        let mut listed = self.listed.lock();
        while !*listed {
            self.wake.wait(&mut listed);
        }
    }

    pub(super) fn listed(&self) {
        let mut listed = self.listed.lock();
        if !*listed {
            *listed = true;
            self.wake.notify_one();
        }
    }
}

impl MergedFs {
    /// Notes, before it happens, that the top directory is read for the kernel.
    pub(super) fn top_is_listed(&self) {
        if !self.watching.on() {
            self.glances.listed();
        }
    }

    /// Has the kernel drop its listing of the top within `lower-ttl` of a change; does not return.
    #[expect(clippy::disallowed_methods, reason = "nothing tells of these changes")]
    pub(super) fn look_after_listing(&self) {
        let period = (self.lower_ttl / 2).max(SHORTEST);
        loop {
            self.glances.wait_until_listed();
            thread::sleep(period);
            self.glance();
        }
    }

    /// Looks at both top directories; if they may have changed, the kernel drops its listing. Where
    /// it has none it is not told: whoever asks for the attributes of the top at that moment would
    /// not be believed, and before the first time nobody may enter. Of a lower that fails nothing is
    /// known, which is no reason to say nothing of the top.
    pub(super) fn glance(&self) {
        if let Err(errno) = self.look_at_tops() {
            log::debug!("look at the top directories: {errno}");
        }
    }

    fn look_at_tops(&self) -> Outcome<()> {
        let mut seen = self.glances.seen.lock();
        let before = seen.take();
        let look = |tree: &Tree| {
            let stat = tree.stat(tree.root().as_fd())?;
            let quiet = stat.unchanged_for() > Some(tree.filesystem().tick());
            Ok(((stat.mtime, stat.ctime), quiet))
        };
        let (upper, lower) = (look(&self.upper)?, look(&self.lower)?);
        let now = Some(Seen([upper.0, lower.0]));
        let changed = before != now && std::mem::take(&mut *self.glances.listed.lock());
        // A change within the same tick of the clock would not move the times again.
        *seen = now.filter(|_| upper.1 && lower.1);
        drop(seen);
        if changed {
            self.notify(Notice::Contents { node: NodeId::ROOT });
        }
        Ok(())
    }
}
