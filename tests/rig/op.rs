// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary: what can be done to a view, and what its two layers hold at first.
//!
//! Invariant: everything here is a plain value; what it means is for those who perform it.

/// One name of a path.
pub(crate) type Name = Vec<u8>;

/// A path inside the view; the top is the empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) Vec<Name>);

impl Place {
    /// Returns the path of `name` in this directory.
    pub(crate) fn join(&self, name: &[u8]) -> Place {
        let mut names = self.0.clone();
        names.push(name.to_vec());
        Place(names)
    }

    /// Returns the directory and the last name; the top has neither.
    pub(crate) fn split(&self) -> Option<(Place, &Name)> {
        let (last, directory) = self.0.split_last()?;
        Some((Place(directory.to_vec()), last))
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
    Append,
    Truncate,
    Create,
}

impl Access {
    pub(crate) const ALL: [(Access, &str); 6] = [
        (Access::Read, "r"),
        (Access::Write, "w"),
        (Access::Both, "rw"),
        (Access::Append, "append"),
        (Access::Truncate, "trunc"),
        (Access::Create, "creat"),
    ];

    pub(crate) fn reads(self) -> bool {
        !matches!(self, Access::Write | Access::Append)
    }

    pub(crate) fn writes(self) -> bool {
        self != Access::Read
    }
}

/// The flags of renameat2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    NoReplace,
    Exchange,
}

impl Manner {
    pub(crate) const ALL: [(Manner, &str); 3] = [
        (Manner::Plain, "plain"),
        (Manner::NoReplace, "noreplace"),
        (Manner::Exchange, "exchange"),
    ];
}

/// One step. Descriptors are kept in numbered slots; a slot that is taken is closed by an open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Create(Place),
    Mkdir(Place),
    Symlink(Place),
    Fifo(Place),
    /// A character device with the number 0/0.
    Device(Place),
    Open(usize, Place, Access),
    Read {
        slot: usize,
        offset: u64,
        length: u64,
    },
    Write {
        slot: usize,
        offset: u64,
        length: u64,
        salt: u64,
    },
    Close(usize),
    Fsync(usize),
    Truncate(Place, u64),
    Unlink(Place),
    Rmdir(Place),
    Rename(Place, Place, Manner),
    Link(Place, Place),
    Chmod(Place, u32),
    SetTimes(Place, i64),
    ReadDir(Place),
    Stat(Place),
    /// Closes every descriptor, unmounts, mounts.
    Remount,
    /// Closes every descriptor, unmounts; the other backend mounts the layers and goes on with them.
    HandOver,
    /// Behind the mount: the lower gains a top-level name, a file or (true) a directory.
    OutsideAddLower(Place, bool),
    /// Behind the mount: the upper loses a top-level name that is in both.
    OutsideRemoveDuplicate(Place),
    /// Behind the mount: another file is put in the place of a top-level file of the lower.
    OutsideReplaceLower(Place),
}

impl Op {
    /// Tells whether the layers change without the mount; all descriptors are closed first.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(
            self,
            Op::OutsideAddLower(..) | Op::OutsideRemoveDuplicate(_) | Op::OutsideReplaceLower(_)
        )
    }

    /// Returns the paths that the operation names.
    pub(crate) fn places(&self) -> Vec<&Place> {
        match self {
            Op::Create(at) | Op::Mkdir(at) | Op::Symlink(at) | Op::Fifo(at) | Op::Device(at) => {
                vec![at]
            }
            Op::Open(_, at, _) | Op::Truncate(at, _) | Op::Unlink(at) | Op::Rmdir(at) => vec![at],
            Op::Chmod(at, _) | Op::SetTimes(at, _) | Op::ReadDir(at) | Op::Stat(at) => vec![at],
            Op::Rename(from, to, _) | Op::Link(from, to) => vec![from, to],
            Op::OutsideAddLower(at, _)
            | Op::OutsideRemoveDuplicate(at)
            | Op::OutsideReplaceLower(at) => vec![at],
            Op::Read { .. } | Op::Write { .. } | Op::Close(_) | Op::Fsync(_) => vec![],
            Op::Remount | Op::HandOver => vec![],
        }
    }
}

/// Which of the two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Lower,
    Upper,
}

/// One object that a layer holds at first. Parents are made as needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) side: Side,
    pub(crate) place: Place,
    pub(crate) thing: Thing,
}

/// What such an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    Dir,
    Opaque,
    File(u64),
    /// A second name of the file at that path.
    Link(Place),
    Symlink,
    Fifo,
    Whiteout,
}

/// Two layers and what is done to the view of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) given: Vec<Given>,
    pub(crate) ops: Vec<Op>,
}

/// Where symbolic links lead: to nothing, so that following one is always ENOENT.
pub(crate) const NOWHERE: &[u8] = b"nowhere/at-all";

/// The modification times that the layers' objects have at first.
pub(crate) const LOWER_TIME: i64 = 1000;
pub(crate) const UPPER_TIME: i64 = 2000;
/// And those of what comes into the lower later.
pub(crate) const LATER_TIME: i64 = 3000;

/// Returns `length` bytes that differ at every offset that matters.
pub(crate) fn pattern(length: u64, salt: u64) -> Vec<u8> {
    let byte = |n: u64| ((n * 31 + n / 251 + salt) % 253) as u8;
    (0..length).map(byte).collect()
}

/// Returns what a file that a layer holds at first contains.
pub(crate) fn first_content(side: Side, place: &Place, length: u64) -> Vec<u8> {
    let sum: u64 = place.0.iter().flatten().map(|byte| u64::from(*byte)).sum();
    pattern(length, sum * 2 + u64::from(side == Side::Upper))
}
