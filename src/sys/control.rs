// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control ioctl on a merged directory, from the caller's side.

#![expect(unsafe_code, reason = "ioctl(2) takes a pointer")]

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The largest status text, in bytes: below the 14 bits of an ioctl number.
pub const STATUS_BYTES: usize = 8192;

/// The letter that sets our ioctl numbers apart.
const LETTER: u8 = b'O';

/// The number of the status ioctl: it fills a buffer of [`STATUS_BYTES`] and returns the length.
pub const STATUS: u32 = {
    let number = nix::request_code_read!(LETTER, 1, STATUS_BYTES);
    // Linux ioctl numbers have 32 bits.
    number as u32
};

/// The number of the barrier ioctl: when it returns, every change of the layers that was made
/// before it is visible.
pub const BARRIER: u32 = {
    let number = nix::request_code_none!(LETTER, 2);
    // Linux ioctl numbers have 32 bits.
    number as u32
};

/// What an ioctl does with repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off, whoever has it on; when that returns, what was hidden shows.
    Off,
    /// On for as long as the calling process lives, or until it is done.
    Hold,
    /// The calling process is done; it is off then if it was on for such processes alone.
    Done,
}

impl Switch {
    const ALL: [Switch; 4] = [Switch::On, Switch::Off, Switch::Hold, Switch::Done];

    /// Returns the number of its ioctl.
    fn number(self) -> u32 {
        let number = match self {
            Switch::On => nix::request_code_none!(LETTER, 3),
            Switch::Off => nix::request_code_none!(LETTER, 4),
            Switch::Hold => nix::request_code_none!(LETTER, 5),
            Switch::Done => nix::request_code_none!(LETTER, 6),
        };
        // Linux ioctl numbers have 32 bits.
        number as u32
    }

    /// Returns what the ioctl of this number does with repair, if anything.
    pub fn of(number: u32) -> Option<Switch> {
        Switch::ALL.into_iter().find(|one| one.number() == number)
    }
}

/// Asks the filesystem of the directory `dir` for its status text. Any filesystem but ours
/// answers ENOTTY.
pub fn status(dir: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; STATUS_BYTES];
    // SAFETY: the request number says that the kernel writes STATUS_BYTES bytes at most to the
    // pointer, and the buffer has that many.
    let length = unsafe {
        libc::ioctl(
            dir.as_raw_fd(),
            libc::Ioctl::from(STATUS),
            buffer.as_mut_ptr(),
        )
    };
    buffer.truncate(usize::try_from(length).map_err(|_| last_errno())?);
    Ok(buffer)
}

/// Waits until every change made before is visible below the directory `dir`.
pub fn barrier(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    plain(dir, BARRIER)
}

/// Switches repair of the merged view at the directory `dir`.
pub fn repair(dir: BorrowedFd<'_>, switch: Switch) -> Result<(), Errno> {
    plain(dir, switch.number())
}

/// Does one of our ioctls that have no argument.
fn plain(dir: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    // SAFETY: the request number says that there is no argument.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), libc::Ioctl::from(number)) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

fn last_errno() -> Errno {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))
}
