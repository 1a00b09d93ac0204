// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking what may never answer, from a process of its own.
//!
//! Invariants: the answer comes within the given time, and no thread is started. A thread that waits
//! for a filesystem which has taken its request and hangs cannot be ended, and would keep this
//! process from ending; a process can be left behind.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the process that was asked ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did not end in time, and was left behind.
    Late,
    /// It ended with this code (`None`: by a signal) after it had written this.
    Ended(Option<i32>, Vec<u8>),
}

/// Runs this program with `words`, and waits for it no longer than `patience`.
pub(super) fn ask<I: AsRef<OsStr>>(
    words: impl IntoIterator<Item = I>,
    patience: Duration,
) -> io::Result<Answer> {
    let child = Command::new("/proc/self/exe")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    collect(child, patience)
}

/// Reads what `child` writes until it closes its output, within `patience`. Without a thread: some
/// callers fork or change their namespace next, which only a process of one thread may do.
fn collect(mut child: Child, patience: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        let mut part = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(&pipe, PollFlags::IN)];
            match poll(&mut ready, Timespec::try_from(left).ok().as_ref()) {
                Ok(0) => {
                    if let Err(why) = child.kill() {
                        log::debug!("end the process that was asked: {why}");
                    }
                    return Ok(Answer::Late);
                }
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(why) => return Err(why.into()),
            }
            match pipe.read(&mut part)? {
                0 => break,
                length => text.extend_from_slice(&part[..length]),
            }
        }
    }
    Ok(Answer::Ended(child.wait()?.code(), text))
}
