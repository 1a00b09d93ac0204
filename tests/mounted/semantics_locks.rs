// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks are local to the mount and right among its users, for files and directories.

use crate::common::check::{Must, fails};
use crate::common::for_each_mode;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::process::Command;

for_each_mode!(
    /// flock on a `.lock` file and on a directory, as Nix uses both: exclusive against every other
    /// opener, also of another process, in either layer.
    flock,
    |fx| {
        fx.lower().dir("low-d").file("low-f", "l");
        fx.upper().dir("up-d").file("object.lock", "");
        let m = fx.mount();
        for name in ["low-d", "low-f", "up-d", "object.lock", ""] {
            let one = File::open(m.path(name)).must();
            let two = File::open(m.path(name)).must();
            rustix::fs::flock(&one, FlockOperation::NonBlockingLockExclusive).must();
            let second = rustix::fs::flock(&two, FlockOperation::NonBlockingLockExclusive);
            fails(Errno::WOULDBLOCK, name, second);
            let mut other = Command::new("flock");
            let status = other.arg("-n").arg(m.path(name)).arg("true").status().must();
            assert_eq!(status.code(), Some(1), "{name}: another process took the lock");
            rustix::fs::flock(&one, FlockOperation::Unlock).must();
            rustix::fs::flock(&two, FlockOperation::NonBlockingLockShared).must();
            rustix::fs::flock(&one, FlockOperation::NonBlockingLockShared).must();
        }
    }
);

for_each_mode!(
    /// fcntl locks on byte ranges: two open file descriptions exclude each other where they
    /// overlap, and only there.
    fcntl,
    |fx| {
        use nix::fcntl::FcntlArg;
        fx.upper().file("f", "0123456789");
        let m = fx.mount();
        let open = || OpenOptions::new().read(true).write(true).open(m.path("f")).must();
        let (one, two) = (open(), open());
        let range = |start, length| nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: start,
            l_len: length,
            l_pid: 0,
        };
        let lock = |file: &File, start, length| {
            nix::fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&range(start, length)))
        };
        lock(&one, 0, 5).must();
        fails(Errno::AGAIN, "overlapping", lock(&two, 4, 3));
        lock(&two, 5, 5).must();
        drop(one);
        lock(&two, 0, 5).must();
    }
);
