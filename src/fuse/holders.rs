// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that have repair switched on for as long as they live.
//!
//! Invariant: repair that was switched on for processes alone is off again when the last of them is
//! done or has ended, however it ended; what somebody switched on for good stays on.

use super::control::Switch;
use crate::merged::MergedFs;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::thread;

/// Who has repair switched on.
#[derive(Debug, Default)]
pub(super) struct Holders(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The processes that still hold it.
    holding: HashSet<u32>,
    /// Those whose end is waited for, be it in vain.
    awaited: HashSet<u32>,
    /// Whether it is off without them.
    theirs: bool,
}

impl Holders {
    /// Switches repair of `fs`, as the process `pid` asks for.
    pub(super) fn switch(&self, fs: &Arc<MergedFs>, switch: Switch, pid: u32) -> Result<(), Errno> {
        let mut state = self.0.lock();
        match switch {
            Switch::On => {
                fs.set_repair(true)?;
                state.theirs = false;
            }
            Switch::Off => {
                fs.set_repair(false)?;
                state.theirs = false;
                state.holding.clear();
            }
            Switch::Hold => {
                self.await_end(fs, pid, &mut state)?;
                if state.holding.is_empty() && !fs.repair_status().on {
                    fs.set_repair(true)?;
                    state.theirs = true;
                }
                state.holding.insert(pid);
            }
            Switch::Done => state.done(fs, pid)?,
        }
        Ok(())
    }

    fn await_end(&self, fs: &Arc<MergedFs>, pid: u32, state: &mut State) -> Result<(), Errno> {
        if state.awaited.contains(&pid) {
            return Ok(());
        }
        // Zero stands for a process that is not seen here.
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = pidfd_open(number.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
        let (all, fs) = (Arc::clone(&self.0), Arc::downgrade(fs));
        thread::Builder::new()
            .name("repair".to_owned())
            .spawn(move || ended(&process, pid, &all, &fs))
            .map_err(|why| Errno::from_io_error(&why).unwrap_or(Errno::AGAIN))?;
        state.awaited.insert(pid);
        Ok(())
    }
}

impl State {
    fn done(&mut self, fs: &Arc<MergedFs>, pid: u32) -> Result<(), Errno> {
        let held = self.holding.remove(&pid);
        if held && self.holding.is_empty() && std::mem::take(&mut self.theirs) {
            fs.set_repair(false)?;
        }
        Ok(())
    }
}

/// Waits for the end of a process, and ends what it held.
fn ended(process: &OwnedFd, pid: u32, all: &Mutex<State>, fs: &Weak<MergedFs>) {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(process, PollFlags::IN)], None) {}
    let mut state = all.lock();
    state.awaited.remove(&pid);
    if let Some(fs) = fs.upgrade()
        && let Err(why) = state.done(&fs, pid)
    {
        log::warn!("switch repair off after process {pid}: {why}");
    }
}
