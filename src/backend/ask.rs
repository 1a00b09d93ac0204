// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking what may never answer, from a process of its own.
//!
//! Invariant: the answer comes within the given time. A thread that waits for a filesystem which has
//! taken its request and hangs cannot be ended, and would keep this process from ending; a process
//! can be left behind.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    Ok(collect(child, patience).unwrap_or(Answer::Late))
}

fn collect(mut child: Child, patience: Duration) -> Option<Answer> {
    let (send, receive) = mpsc::channel();
    let mut pipe = child.stdout.take()?;
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = pipe.read_to_end(&mut text);
        drop(send.send(read.map(|_| text)));
    });
    match receive.recv_timeout(patience) {
        Ok(Ok(text)) => Some(Answer::Ended(child.wait().ok()?.code(), text)),
        _ => {
            if let Err(why) = child.kill() {
                log::debug!("end the process that was asked: {why}");
            }
            None
        }
    }
}
