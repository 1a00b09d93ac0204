// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two directory trees underneath the merged view, and the only system calls made on them.
//!
//! Invariant: [`Lower`] has no operation that changes anything and hands out no descriptor that
//! could; everything that writes is a method of [`Upper`]. Every operation takes one directory
//! descriptor and one name, never a path, so no symbolic link is ever followed.

mod acting;
mod entries;
mod filesystem;
mod identity;
mod lower;
mod markers;
mod own_mount;
mod stat;
mod tree;
mod upper;
mod upper_object;
mod watch;

use std::fmt;

pub use entries::{DirEntry, Listed};
pub use filesystem::Filesystem;
pub use identity::{Devices, Ino};
pub use lower::{Lower, may_pass};
pub use markers::Marks;
pub use rustix::io::Errno;
pub use stat::{Kind, Stat, Timestamp};
pub use tree::Tree;
pub use upper::{NewKind, Owner, Upper};
pub use upper_object::{TimeChange, Times, WriteFd};
pub use watch::{Change, Watch};

/// Which of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerId {
    /// The tree that is never modified.
    Lower,
    /// The tree that holds everything new.
    Upper,
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LayerId::Lower => "lower",
            LayerId::Upper => "upper",
        })
    }
}

/// The result of one operation on a layer: the errno is the backing filesystem's own.
pub type Result<T> = std::result::Result<T, Errno>;
