// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going to the background: the program runs itself again, and waits until that one is mounted.
//!
//! Invariant: the waiting program ends with 0 only when the mount works, and holds no descriptor
//! or thread that the serving one could have inherited half-made.

use crate::error::{Error, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// What the serving program writes to its standard output once it is mounted.
const READY: &[u8] = b"ready";

/// How the program that was started in the background ended its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is mounted, and serves.
    Mounted,
    /// It has printed its error and ended with this code.
    Failed(u8),
}

/// Starts this program again with `args` and waits until it says that it is ready, or ends.
///
/// Its standard output is the pipe over which it says so; its errors go to our standard error.
pub fn start(name: &OsString, args: &[OsString]) -> Result<Started> {
    let failed = |why| Error::environment("start the driver", why);
    let mut child = Command::new("/proc/self/exe")
        .arg0(name)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut answer = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut answer).map_err(failed)?;
    }
    if answer == READY {
        return Ok(Started::Mounted);
    }
    let status = child.wait().map_err(failed)?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) if code != 0 => Ok(Started::Failed(code)),
        _ => Err(failed(std::io::Error::other(format!(
            "it ended before it was mounted ({status})"
        )))),
    }
}

/// The serving program's end of [`start`].
#[derive(Debug)]
pub struct Background {
    ready: File,
    left: fn(),
}

impl Background {
    /// Leaves the session of the caller, so that its terminal and its signals do not reach the
    /// driver, and takes standard output over as the pipe to [`start`].
    ///
    /// `left` is called when standard error is let go of, for messages to go elsewhere.
    pub fn enter(left: fn()) -> Result<Background> {
        let failed = |why| Error::environment("go to the background", why);
        rustix::process::setsid().map_err(failed)?;
        // While it prepares it works for a caller who waits, and ends when that one is ended.
        let tied = set_parent_process_death_signal(Some(Signal::TERM));
        super::best_effort("tie the driver to its caller", tied);
        // It would be named after the link through which it was started.
        super::best_effort("name the process", rustix::thread::set_name(c"overstore"));
        let ready = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map_err(failed)?;
        let null = null()?;
        rustix::stdio::dup2_stdout(&null).map_err(failed)?;
        Ok(Background {
            ready: File::from(ready),
            left,
        })
    }

    /// From now on the caller's end no longer ends this process: [`Background::ready`] tells of it.
    /// To be called by the thread that called [`Background::enter`], as the kernel notes it by thread.
    pub(super) fn untie(&self) {
        super::best_effort(
            "let go of the caller",
            set_parent_process_death_signal(None),
        );
    }

    /// Returns what is called when standard error is let go of.
    pub(super) fn left(&self) -> fn() {
        self.left
    }

    /// Says that the mount works and lets go of the caller's terminal. `false` if the caller is
    /// gone, which asks for the end.
    pub fn ready(mut self) -> bool {
        super::best_effort(
            "let go of the caller",
            set_parent_process_death_signal(None),
        );
        let told = self.ready.write_all(READY).is_ok();
        (self.left)();
        if let Ok(null) = null() {
            // The pipe of somebody who reads our errors must see its end.
            super::best_effort(
                "let go of standard error",
                rustix::stdio::dup2_stderr(&null),
            );
        }
        told
    }
}

/// Opens what swallows everything.
pub(super) fn null() -> Result<OwnedFd> {
    const NULL: &str = "/dev/null";
    File::options()
        .read(true)
        .write(true)
        .open(NULL)
        .map(OwnedFd::from)
        .map_err(|why| Error::on("open", NULL, why))
}
