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
    match usize::try_from(length) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(_) => {
            let errno = std::io::Error::last_os_error().raw_os_error();
            Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)))
        }
    }
}
