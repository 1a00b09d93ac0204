// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel offers a driver: the head of the INIT request that follows every FUSE mount.
//!
//! Format: `fuse_in_header` and `fuse_init_in` of the kernel's `include/uapi/linux/fuse.h`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io;
use std::os::fd::AsFd;

/// The kernel refuses to write a request into less (`FUSE_MIN_READ_BUFFER`).
const BUFFER_BYTES: usize = 8192;
/// Where the arguments of a request begin.
const HEAD_BYTES: usize = 40;
const INIT: u32 = 26;
const INIT_EXT: u64 = 1 << 30;
const NO_OPEN: u64 = 1 << 17;
const NO_OPENDIR: u64 = 1 << 24;
const EXPIRE_ONLY: u64 = 1 << 35;
const PASSTHROUGH: u64 = 1 << 37;

/// The protocol and the features of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    version: (u32, u32),
    flags: u64,
}

impl Offer {
    /// Reads the first request from `device`, which was mounted just now; waits for it a second.
    pub fn read(device: impl AsFd) -> io::Result<Offer> {
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&device, PollFlags::IN)];
        if poll(&mut ready, Some(&second))? == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let mut request = [0_u8; BUFFER_BYTES];
        let length = rustix::io::read(&device, &mut request)?;
        let request = request.get(..length).unwrap_or_default();
        parse(request).ok_or_else(|| io::Error::other("the first request is not INIT"))
    }

    /// Whether opens and listings may be kept in the kernel, on which the driver relies.
    pub fn no_open(self) -> bool {
        self.flags & NO_OPEN != 0 && self.flags & NO_OPENDIR != 0
    }

    /// Whether a name can be expired without detaching what is mounted below it (Linux 6.2):
    /// without it changes of the layers show after `lower-ttl`.
    pub fn expires(self) -> bool {
        self.flags & EXPIRE_ONLY != 0
    }

    /// Whether reads and writes may go to a backing file without the driver (Linux 6.9).
    pub fn passthrough(self) -> bool {
        self.flags & PASSTHROUGH != 0
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {}.{}", self.version.0, self.version.1)
    }
}

fn parse(request: &[u8]) -> Option<Offer> {
    let number = |at: usize| -> Option<u32> {
        let bytes = request.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    if number(4)? != INIT {
        return None;
    }
    let mut flags = u64::from(number(HEAD_BYTES + 12)?);
    if flags & INIT_EXT != 0 {
        flags |= u64::from(number(HEAD_BYTES + 16)?) << 32;
    }
    Some(Offer {
        version: (number(HEAD_BYTES)?, number(HEAD_BYTES + 4)?),
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, numbers: [u32; 5]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        for number in numbers {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn flags_beyond_32_count_only_where_the_kernel_says_so() {
        let both = (NO_OPEN | NO_OPENDIR) as u32;
        let new = request(INIT, [7, 45, 0, both | INIT_EXT as u32, 1 << 5 | 1 << 3]);
        let offer = parse(&new).expect("an INIT request");
        assert!(offer.no_open() && offer.passthrough() && offer.expires());
        assert_eq!(offer.to_string(), "protocol 7.45");
        let old = parse(&request(INIT, [7, 31, 0, both, 1 << 5])).expect("an INIT request");
        assert!(old.no_open() && !old.passthrough() && !old.expires());
    }

    #[test]
    fn what_is_no_init_is_none() {
        assert_eq!(parse(&request(1, [7, 45, 0, 0, 0])), None);
        assert_eq!(parse(b""), None);
    }
}
