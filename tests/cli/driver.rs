// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver in the foreground, and what is mounted.

use crate::place::{Place, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// A driver in the foreground: killed at the latest when the test ends.
pub(crate) struct Driver(pub(crate) std::process::Child);

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Driver {
    pub(crate) fn start(place: &Place) -> Driver {
        let child = place
            .overstore()
            .args(["mount", "--foreground", "-o", &place.layers()])
            .arg(place.path("m"))
            .spawn()
            .unwrap();
        eventually("mounted", || place.path("m/low").symlink_metadata().is_ok());
        Driver(child)
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it in the middle of everything.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

pub(crate) fn is_mounted(place: &Place) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.contains(&format!(" {} ", place.path("m").display()))
}
