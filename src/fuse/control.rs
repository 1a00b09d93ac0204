// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: an ioctl on the merged directory, which needs no socket and reaches
//! whoever may open the directory.

use crate::error::{Error, Result};
use crate::sys::control;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

pub use crate::sys::control::STATUS_BYTES;

/// Whether an ioctl number is the status request.
pub(super) fn is_status(command: u32) -> bool {
    command == control::STATUS
}

/// Whether an ioctl number is the barrier.
pub(super) fn is_barrier(command: u32) -> bool {
    command == control::BARRIER
}

/// Waits until the driver of the merged directory `dir` has made every earlier change of the
/// layers visible; `false` if no overstore driver answers there.
pub fn control_barrier(dir: &OwnedFd) -> Result<bool> {
    match control::barrier(dir.as_fd()) {
        Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(Error::environment("wait for the driver", errno)),
        Ok(()) => Ok(true),
    }
}

/// Asks the driver of the merged directory `dir` (an open directory descriptor, not `O_PATH`)
/// for its status text; `None` if no overstore driver answers there.
pub fn control_status(dir: &OwnedFd) -> Result<Option<String>> {
    match control::status(dir.as_fd()) {
        Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(Error::environment("ask the driver for its status", errno)),
        Ok(text) => String::from_utf8(text)
            .map(Some)
            .map_err(|error| Error::environment("read the driver's status", error)),
    }
}
