// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forking, and what a forked process must leave behind.
//!
//! Invariant: nothing here forks a process that has more than one thread, so that the child may
//! run any code.
#![expect(unsafe_code, reason = "fork and close_range have no safe form")]

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The exit code of a forked process whose code panicked (`EX_SOFTWARE` of sysexits).
const PANICKED: u8 = 70;

/// Runs `body` in a new process that is nobody's child (its parent is init or a subreaper), and
/// returns in the calling process at once. The process ends with the code that `body` returns.
///
/// # Errors
/// Refuses when the calling process has more than one thread.
pub fn fork_detached(body: impl FnOnce() -> u8) -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "fork in a process of {threads} threads"
        )));
    }
    // SAFETY: this process has one thread (checked above; only this thread could start more), so
    // no lock can be held by a thread that the child lacks.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            match waitpid(child, None) {
                // Somebody has this process ignore SIGCHLD: the kernel cleans up by itself.
                Err(Errno::ECHILD) | Ok(_) => Ok(()),
                Err(why) => Err(why.into()),
            }
        }
        ForkResult::Child => {
            // SAFETY: a forked process starts with one thread.
            match unsafe { fork() } {
                Ok(ForkResult::Parent { .. }) => leave(0),
                Ok(ForkResult::Child) => {
                    leave(catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED))
                }
                Err(_) => leave(PANICKED),
            }
        }
    }
}

/// Ends the process without running what its original registered for its own exit.
fn leave(code: u8) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Closes every descriptor of this process but `keep` and the standard three, also those that the
/// program was started with.
///
/// Only for a freshly forked process that owns nothing it has not named in `keep`.
pub fn close_other_files(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut next: u32 = 3;
    for fd in kept.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if fd > next {
            close_range(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    close_range(next, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the system call touches no memory; the caller of `close_other_files` has promised
    // that nothing else in this process owns the descriptors of the range.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
