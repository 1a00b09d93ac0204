// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FUSE driver: translates kernel requests to operations of `merged`.

use crate::error::Result;
use crate::merged::MergedFs;
use std::fmt;
use std::os::fd::OwnedFd;

/// The largest status text that the control ioctl returns, in bytes.
pub const STATUS_BYTES: usize = 8192;

/// How one session is served.
pub struct SessionOptions {
    /// Number of request threads, at least 1.
    pub threads: usize,
    /// Answers the status ioctl: one JSON object of at most [`STATUS_BYTES`] bytes.
    pub status: Box<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Serves `fs` on a `/dev/fuse` descriptor that is already mounted, until it is unmounted.
///
/// Calls `ready` once the kernel and the driver have agreed (INIT), that is when the mount works.
pub fn serve(
    _device: OwnedFd,
    _fs: MergedFs,
    _options: SessionOptions,
    _ready: impl FnOnce(),
) -> Result<()> {
    Ok(())
}

/// Asks the driver of the merged directory `dir` (an open directory descriptor, not `O_PATH`)
/// for its status text; `None` if no overstore driver answers there.
pub fn control_status(_dir: &OwnedFd) -> Result<Option<String>> {
    Ok(None)
}
