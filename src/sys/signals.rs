// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that must not end the driver.

#![expect(
    unsafe_code,
    reason = "signal(2) can install handlers; ignoring is harmless"
)]

use nix::sys::signal::{SigHandler, Signal, signal};

/// Ignores SIGXFSZ: a write over the limit on file sizes is then an error (EFBIG) for the caller
/// whose write it is, not the end of the driver.
pub fn ignore_file_size_signal() -> nix::Result<()> {
    // SAFETY: no handler is installed, the signal is only ignored.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map(drop)
}
