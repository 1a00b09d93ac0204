// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel must be told without having asked.
//!
//! Invariant: a notice is only queued here; it is sent by a thread that handles no request,
//! because the kernel may wait for a request in flight before it takes the notice.

use super::node::NodeId;
use super::{Done, MergedFs, Outcome};
use crate::layer::{Stat, Timestamp};
use std::fmt;

/// Something cached in the kernel that is no longer true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Pages of a file hold what was never written: a refused write of a shared mapping.
    Data {
        /// The file.
        node: NodeId,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// A name in the top directory may lead elsewhere.
    Name {
        /// The name.
        name: Box<[u8]>,
    },
    /// The attributes of a node have changed behind the mount.
    Attributes {
        /// The node.
        node: NodeId,
    },
    /// What a file or directory holds, and its attributes, have changed behind the mount.
    Contents {
        /// The node.
        node: NodeId,
    },
}

/// What goes to the thread that tells the kernel, in this order.
pub enum Message {
    /// Tell the kernel.
    Tell(Notice),
    /// Everything before has been told.
    Done(Done),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Tell(notice) => notice.fmt(f),
            Message::Done(_) => f.write_str("Done"),
        }
    }
}

/// What both top directories looked like when the kernel was last told.
pub(super) type SeenTops = Option<[(Timestamp, Timestamp); 2]>;

impl MergedFs {
    /// Queues a notice; without a session there is nobody to tell.
    pub(super) fn notify(&self, notice: Notice) {
        self.send(Message::Tell(notice));
    }

    /// Calls `done` once the kernel has been told everything before.
    pub fn after_notices(&self, done: Done) {
        self.send(Message::Done(done));
    }

    fn send(&self, message: Message) {
        if let Err(lost) = self.notices.send(message) {
            log::debug!("nobody takes {:?}", lost.0);
        }
    }

    /// Tells the kernel of a change of either top directory that it may not know.
    pub(super) fn watch_tops(&self, upper: &Stat) -> Outcome<()> {
        let lower = self.lower.stat(self.lower.root())?;
        let now = Some([(upper.mtime, upper.ctime), (lower.mtime, lower.ctime)]);
        let before = std::mem::replace(&mut *self.seen_tops.lock(), now);
        if before.is_some() && before != now {
            self.notify(Notice::Contents { node: NodeId::ROOT });
        }
        Ok(())
    }
}
