// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking what may never answer, from a process of its own.
//!
//! Invariants: the answer comes within the given time, no process is left running that can be ended,
//! and no thread is started. A thread that waits for a filesystem which has taken its request and
//! hangs cannot be ended, and would keep this process from ending; a process can be left behind.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process that was killed may take to end, unless the kernel has it wait for what hangs.
const END: Duration = Duration::from_millis(200);

/// How often a process is looked at where the kernel has no descriptors of processes.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

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
    let mut command = Command::new("/proc/self/exe");
    command.args(words);
    collect(command, patience)
}

/// Runs `command`, and reads what it writes until it has ended, within `patience`. Without a thread:
/// some callers fork or change their namespace next, which only a process of one thread may do.
fn collect(mut command: Command, patience: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + patience;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut asked = Asked(command.stderr(Stdio::null()).spawn()?);
    let mut text = Vec::new();
    if let Some(mut pipe) = asked.0.stdout.take() {
        let mut part = [0; 4096];
        loop {
            if !is_ready(&pipe, deadline)? {
                return Ok(Answer::Late);
            }
            match pipe.read(&mut part) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&part[..length]),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
    }
    Ok(match asked.end(deadline)? {
        Some(status) => Answer::Ended(status.code(), text),
        None => Answer::Late,
    })
}

/// A process that is ended with its value.
#[derive(Debug)]
struct Asked(Child);

impl Asked {
    /// Waits for the process to end; `None` if it has not by `deadline`.
    fn end(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        // Linux 5.3 has them.
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            let in_time = match &process {
                Some(process) => is_ready(process, deadline)?,
                None => {
                    // Nothing to wait for but the time; a signal ends that early.
                    match poll(&mut [], Some(&LOOK)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(why) => return Err(why.into()),
                    }
                    Instant::now() < deadline
                }
            };
            if !in_time {
                return self.0.try_wait();
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // An error means that it has ended, or may not be ended by this user.
        match self.0.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return,
        }
        let killed = self.0.kill();
        match killed.and_then(|()| self.end(Instant::now() + END)) {
            Ok(Some(_)) => {}
            Ok(None) => log::debug!("the process that was asked hangs, and is left behind"),
            Err(why) => log::debug!("end the process that was asked: {why}"),
        }
    }
}

/// Waits until `file` has something to tell; false if it has not by `deadline`.
fn is_ready(file: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(&file, PollFlags::IN)];
        match poll(&mut ready, Timespec::try_from(left).ok().as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Answer {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        collect(command, patience).expect("sh runs")
    }

    #[test]
    fn what_was_written_and_how_it_ended_is_told() {
        let minute = Duration::from_secs(60);
        let said = Answer::Ended(Some(3), b"text".to_vec());
        assert_eq!(shell("printf text; exit 3", minute), said);
        assert_eq!(shell("kill -KILL $$", minute), Answer::Ended(None, vec![]));
    }

    #[test]
    fn a_process_that_goes_on_after_its_output_is_late_and_ended() {
        let place = tempfile::tempdir().expect("a directory");
        let pid = place.path().join("pid");
        let script = format!("echo $$ >{}; exec >&-; exec sleep 8", pid.display());
        assert_eq!(shell(&script, Duration::from_secs(2)), Answer::Late);
        let pid = std::fs::read_to_string(pid).expect("it was started");
        let process = std::path::Path::new("/proc").join(pid.trim());
        let there = process.try_exists().expect("/proc answers");
        assert!(!there, "it was ended, and waited for");
    }

    #[test]
    fn a_process_that_says_nothing_is_late() {
        assert_eq!(
            shell("exec sleep 8", Duration::from_millis(100)),
            Answer::Late
        );
    }
}
