// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shared writable mapping of the first page of a file, by plain pointer access.
#![expect(unsafe_code, reason = "a memory mapping has no safe interface")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const PAGE: usize = 4096;

/// One mapped page; unmapped on drop.
#[derive(Debug)]
pub(crate) struct SharedPage(*mut libc::c_void);

impl SharedPage {
    /// Maps the first page of `file`, which must be open for reading and writing and not empty.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let nowhere = std::ptr::null_mut();
        // SAFETY: the kernel chooses the address, so no existing memory is replaced.
        let page =
            unsafe { libc::mmap(nowhere, PAGE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedPage(page))
    }

    /// Stores `byte` at `offset`.
    pub(crate) fn store(&self, offset: usize, byte: u8) {
        assert!(offset < PAGE);
        // SAFETY: the page is mapped for writing while `self` lives, and `offset` is inside it.
        unsafe { self.0.cast::<u8>().add(offset).write_volatile(byte) }
    }

    /// Loads the byte at `offset`.
    pub(crate) fn load(&self, offset: usize) -> u8 {
        assert!(offset < PAGE);
        // SAFETY: the page is mapped for reading while `self` lives, and `offset` is inside it.
        unsafe { self.0.cast::<u8>().add(offset).read_volatile() }
    }

    /// Writes the page back to the file.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: exactly the mapping that `map` made.
        match unsafe { libc::msync(self.0, PAGE, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made, and nobody can use it any more.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}
