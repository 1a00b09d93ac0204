// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the kernel what it has cached and what is no longer true.
//!
//! Invariant: notices are sent from this one thread, which holds no lock and handles no request:
//! the kernel may wait for requests in flight before it takes one. A name is expired, never
//! invalidated: that would detach the mounts inside it, in every namespace.

use crate::merged::{Message, NodeId, Notice};
use fuser::{INodeNo, Notifier};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A lookup that was on its way when its name was expired may arrive afterwards, with what was true
/// before: so each name is expired once more, this much later.
const AGAIN: Duration = Duration::from_secs(1);

/// `FUSE_NOTIFY_INVAL_ENTRY` of the kernel's `fuse.h`.
const INVAL_ENTRY: i32 = 3;
/// `FUSE_EXPIRE_ONLY` of the kernel's `fuse.h`.
const EXPIRE_ONLY: u32 = 1;

/// Names with the times at which they are to be expired once more.
type Again = VecDeque<(Instant, NodeId, Box<[u8]>)>;

/// The one who tells.
struct Teller {
    notifier: Notifier,
    /// The connection itself, for what the library cannot say.
    connection: File,
    /// In the order of their times.
    again: Again,
}

/// Starts the thread; it ends with the driver.
pub(super) fn start(
    messages: Receiver<Message>,
    notifier: Notifier,
    connection: File,
) -> io::Result<()> {
    let mut teller = Teller {
        notifier,
        connection,
        again: VecDeque::new(),
    };
    thread::Builder::new()
        .name("notifier".to_owned())
        .spawn(move || teller.run(&messages))
        .map(drop)
}

impl Teller {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = match self.again.front() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((due, ..)) => {
                    messages.recv_timeout(due.saturating_duration_since(Instant::now()))
                }
            };
            match message {
                Ok(Message::Tell(notice)) => self.tell(&notice),
                Ok(Message::Done(done)) => done(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for (parent, name) in due(&mut self.again, Instant::now()) {
                if let Err(error) = self.expire(parent, &name) {
                    log::trace!("expire again: {error}");
                }
            }
        }
    }

    fn tell(&mut self, notice: &Notice) {
        let told = match notice {
            Notice::Data {
                node,
                offset,
                length,
            } => {
                let offset = i64::try_from(*offset).unwrap_or(0);
                let length = i64::try_from(*length).unwrap_or(0);
                self.notifier.inval_inode(INodeNo(node.0), offset, length)
            }
            Notice::Name { parent, name } => {
                let then = Instant::now() + AGAIN;
                self.again.push_back((then, *parent, name.clone()));
                self.expire(*parent, name)
            }
            Notice::Attributes { node } => self.notifier.inval_inode(INodeNo(node.0), -1, 0),
            Notice::Contents { node } => {
                if *node == NodeId::ROOT {
                    self.await_listings();
                }
                self.notifier.inval_inode(INodeNo(node.0), 0, 0)
            }
        };
        if let Err(error) = told {
            // Mostly ENOENT: the kernel has nothing cached.
            log::trace!("{notice:?}: {error}");
        }
    }

    /// Waits for listings of the top that are on their way: what they bring would be kept for new
    /// after what is kept was dropped. Expiring any name waits so, also one that nobody has.
    fn await_listings(&mut self) {
        if let Err(error) = self.expire(NodeId::ROOT, b".") {
            log::trace!("await listings: {error}");
        }
    }

    fn expire(&mut self, parent: NodeId, name: &[u8]) -> io::Result<()> {
        self.connection.write_all(&expiry(parent, name)?)
    }
}

/// Takes the names whose time has come; one name is taken once.
fn due(again: &mut Again, now: Instant) -> BTreeSet<(NodeId, Box<[u8]>)> {
    let mut names = BTreeSet::new();
    while again.front().is_some_and(|(due, ..)| *due <= now) {
        names.extend(again.pop_front().map(|(_, parent, name)| (parent, name)));
    }
    names
}

/// The notice by which the kernel asks again for `name` before it next uses it.
fn expiry(parent: NodeId, name: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let name_length = u32::try_from(name.len()).map_err(too_long)?;
    let mut packet = Vec::with_capacity(33 + name.len());
    packet.extend_from_slice(&(33 + name_length).to_ne_bytes());
    packet.extend_from_slice(&INVAL_ENTRY.to_ne_bytes());
    packet.extend_from_slice(&0u64.to_ne_bytes());
    packet.extend_from_slice(&parent.0.to_ne_bytes());
    packet.extend_from_slice(&name_length.to_ne_bytes());
    packet.extend_from_slice(&EXPIRE_ONLY.to_ne_bytes());
    packet.extend_from_slice(name);
    packet.push(0);
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_due_in_their_order_and_once() {
        let now = Instant::now();
        let at = |after, name: &str| (now + after, NodeId::ROOT, name.as_bytes().into());
        let mut again: Again = [
            at(Duration::ZERO, "a"),
            at(Duration::ZERO, "a"),
            at(AGAIN, "b"),
        ]
        .into();
        assert_eq!(due(&mut again, now).len(), 1);
        assert_eq!(due(&mut again, now).len(), 0);
        assert_eq!(due(&mut again, now + AGAIN).len(), 1);
        assert!(again.is_empty());
    }

    #[test]
    fn an_expiry_has_the_kernels_shape() {
        let packet = expiry(NodeId(1), b"ab").expect("short");
        assert_eq!(packet.len(), 35);
        assert_eq!(packet[..8], [35, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(
            packet[16..32],
            [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]
        );
        assert_eq!(packet[32..], *b"ab\0");
    }
}
