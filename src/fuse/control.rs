// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: an ioctl on the merged directory, which needs no socket and reaches
//! whoever may open the directory.

use crate::error::{Error, Result};
use crate::sys::control;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

pub use crate::sys::control::{STATUS_BYTES, Switch};

/// Whether an ioctl number is the status request.
pub(super) fn is_status(command: u32) -> bool {
    command == control::STATUS
}

/// Whether an ioctl number is the barrier.
pub(super) fn is_barrier(command: u32) -> bool {
    command == control::BARRIER
}

/// What came back over the control channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// The driver's answer.
    Said(T),
    /// There is a mount whose driver has ended.
    Gone,
    /// Another filesystem, or none of ours.
    NotOurs,
}

fn answer<T>(what: &str, result: std::result::Result<T, Errno>) -> Result<Answer<T>> {
    match result {
        Ok(said) => Ok(Answer::Said(said)),
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(Answer::Gone),
        Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(Answer::NotOurs),
        Err(errno) => Err(Error::environment(what, errno)),
    }
}

/// Waits until the driver of the merged directory `dir` (an open directory descriptor, not
/// `O_PATH`) has made every earlier change of the layers visible.
pub fn control_barrier(dir: &OwnedFd) -> Result<Answer<()>> {
    answer("wait for the driver", control::barrier(dir.as_fd()))
}

/// Switches repair of the merged directory `dir` (an open directory descriptor, not `O_PATH`). Off,
/// everything that was hidden shows when this returns.
pub fn control_repair(dir: &OwnedFd, switch: Switch) -> Result<Answer<()>> {
    let what = match switch {
        Switch::On | Switch::Hold => "switch repair on",
        Switch::Off | Switch::Done => "switch repair off",
    };
    match control::repair(dir.as_fd(), switch) {
        Err(Errno::PERM) => Err(Error::environment(what, Errno::PERM)
            .hint("root and the user who serves the view may (see `overstore status`)")),
        Err(Errno::ROFS) => {
            Err(Error::environment(what, "the view is mounted read-only")
                .hint("mount it without `ro`"))
        }
        other => answer(what, other),
    }
}

/// Asks the driver of the merged directory `dir` (an open directory descriptor, not `O_PATH`) for
/// its status text.
pub fn control_status(dir: &OwnedFd) -> Result<Answer<String>> {
    let what = "ask the driver for its status";
    match answer(what, control::status(dir.as_fd()))? {
        Answer::Said(text) => String::from_utf8(text)
            .map(Answer::Said)
            .map_err(|error| Error::environment("read the driver's status", error)),
        Answer::Gone => Ok(Answer::Gone),
        Answer::NotOurs => Ok(Answer::NotOurs),
    }
}
