// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FUSE driver: translates requests of the kernel to operations of `merged`.
//!
//! Decides how the protocol is used (no-open mode, lifetimes as `merged` says, 1 MiB writes) and
//! nothing about files. Invariant: `fuser` is named in this room only, and no handler decides.

mod adapter;
mod answer;
mod control;
mod holders;
mod notifier;
mod offer;

pub use control::{Answer, STATUS_BYTES, Switch, control_barrier, control_repair, control_status};
pub use offer::Offer;

use crate::error::{Error, Result};
use crate::merged::MergedFs;
use crate::sys::signals::{self, Signal};
use adapter::Adapter;
use fuser::{Config, Session, SessionACL};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Describes a view and its driver.
pub type StatusText = Box<dyn Fn(&MergedFs) -> String + Send + Sync>;

/// How one session is served.
pub struct SessionOptions {
    /// Number of request threads, at least 1.
    pub threads: usize,
    /// Answers the status ioctl: one JSON object of at most [`STATUS_BYTES`] bytes.
    pub status: StatusText,
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
    device: OwnedFd,
    fs: MergedFs,
    options: SessionOptions,
    ready: impl FnOnce(),
) -> Result<()> {
    let failed = |what: &str, error: &dyn fmt::Display| Error::environment(what, error);
    // A write over the limit on file sizes is then an error (EFBIG) for the caller whose write it
    // is, not the end of the driver.
    signals::ignore(&[Signal::SIGXFSZ]).map_err(|error| failed("ignore SIGXFSZ", &error))?;
    // The kernel applies the caller's umask; the driver's own must take nothing more.
    rustix::process::umask(rustix::fs::Mode::empty());
    let fs = Arc::new(fs);
    let notices = fs.take_notices();
    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(fs.least_threads()));
    let connection = device
        .try_clone()
        .map_err(|error| failed("copy the descriptor of the connection", &error))?;
    let expires = Arc::new(AtomicBool::new(false));
    let adapter = Adapter::new(Arc::clone(&fs), options.status, Arc::clone(&expires));
    let session = Session::from_fd(adapter, device, SessionACL::All, config)
        .map_err(|error| failed("agree with the kernel on the FUSE protocol", &error))?;
    if let Some(notices) = notices {
        notifier::start(notices, session.notifier(), connection.into())
            .map_err(|error| failed("start the notifier thread", &error))?;
    }
    fs.start_watching(expires.load(Ordering::Relaxed));
    ready();
    session
        .run()
        .map_err(|error| failed("serve the mount", &error))
}
