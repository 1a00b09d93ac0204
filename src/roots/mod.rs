// SPDX-License-Identifier: MIT OR Apache-2.0
//! What keeps store objects alive, and how processes agree on it: Nix's files, locks and socket.
//!
//! Decides which objects are rooted and who may add or delete one now; leaves to `operations` what
//! follows from it. Invariant: what could not be read is an error or told, never "no roots"; and
//! nobody waits without a notice, or where a signal could not end the wait.
//!
//! * `gc_lock`: the lock of collectors.
//! * `temp`: this process's temporary roots; `asking`: how a running collector is told of them;
//!   `others`: those of all processes.
//! * `protected`: what a running collector may not delete; `server`: how others tell it.
//! * `permanent`: the links below the state directory; `link`: making them.
//! * `runtime`: what running processes use; `deep`: paths too long for `/proc`; `spelling`: store paths inside other text;
//!   `roots_daemon`: a daemon that is asked instead.
//! * `path_lock`: who adds an object; `tmp_dir`: where it is made.

mod asking;
mod deep;
mod gc_lock;
mod link;
mod others;
mod path_lock;
mod permanent;
mod protected;
mod roots_daemon;
mod runtime;
mod server;
mod socket;
mod spelling;
mod temp;
mod tmp_dir;

pub use crate::wait::Interrupt;
pub use gc_lock::GcLock;
pub use link::{add_indirect_root, add_permanent_root};
pub use others::{find_temp_roots, list_temp_roots};
pub use path_lock::{PathLocks, remove_abandoned_lock};
pub use permanent::{Permanent, Stale, find_permanent_roots};
pub use protected::{Deleting, Protected};
pub use roots_daemon::ask_roots_daemon;
pub use runtime::{StoreDirs, find_runtime_roots};
pub use server::GcServer;
pub use temp::TempRoots;
pub use tmp_dir::{TmpDir, is_in_use, lock_abandoned};

use crate::store::{HASH_PART_BYTES, ObjectName};
use std::fmt;
use std::path::PathBuf;

/// The hash part of an object's name, by which roots are compared: so a root of `X` also keeps
/// `X.lock` and `X.drv.chroot`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashPart([u8; HASH_PART_BYTES]);

impl HashPart {
    /// Returns that of `name`.
    pub fn of(name: &ObjectName) -> HashPart {
        let mut bytes = [0; HASH_PART_BYTES];
        bytes.copy_from_slice(name.hash_part().as_bytes());
        HashPart(bytes)
    }

    /// Returns its digits.
    pub fn text(&self) -> String {
        self.0.escape_ascii().to_string()
    }
}

impl fmt::Debug for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// One reason why an object is alive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// What refers to it: a link, or a file below `/proc`.
    pub link: PathBuf,
    /// The object.
    pub object: ObjectName,
}

#[cfg(test)]
mod find_tests;
#[cfg(test)]
mod lock_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod temp_tests;
