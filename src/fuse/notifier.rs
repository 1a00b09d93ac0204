// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the kernel what it has cached and what is no longer true.
//!
//! Invariant: notices are sent from this one thread, which holds no lock and handles no request:
//! the kernel may wait for requests in flight before it takes one.

use crate::merged::Notice;
use fuser::{INodeNo, Notifier};
use std::io;
use std::sync::mpsc::Receiver;
use std::thread;

/// Starts the thread; it ends with the driver.
pub(super) fn start(notices: Receiver<Notice>, notifier: Notifier) -> io::Result<()> {
    let send_all = move || {
        for notice in notices {
            if let Err(error) = send(&notifier, notice) {
                log::debug!("{notice:?}: {error}");
            }
        }
    };
    thread::Builder::new()
        .name("notifier".to_owned())
        .spawn(send_all)
        .map(drop)
}

fn send(notifier: &Notifier, notice: Notice) -> io::Result<()> {
    match notice {
        Notice::Data {
            node,
            offset,
            length,
        } => {
            let offset = i64::try_from(offset).unwrap_or(0);
            let length = i64::try_from(length).unwrap_or(0);
            notifier.inval_inode(INodeNo(node.0), offset, length)
        }
        Notice::Attributes { node } => notifier.inval_inode(INodeNo(node.0), -1, 0),
        Notice::Contents { node } => notifier.inval_inode(INodeNo(node.0), 0, 0),
    }
}
