// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that must not end the driver.

#![expect(
    unsafe_code,
    reason = "signal(2) can install handlers; ignoring is harmless"
)]

use nix::sys::signal::{SigHandler, signal};
use std::io;

pub use nix::sys::signal::Signal;

/// Ignores `signals` in this process from now on.
pub fn ignore(signals: &[Signal]) -> io::Result<()> {
    for &one in signals {
        // SAFETY: no handler is installed, so no code runs in signal context.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}
