// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked for: the directories, and how the mount behaves. Nothing is looked at yet.

use rustix::mount::{MountAttrFlags, MountFlags};
use std::path::PathBuf;

/// One overlay to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The lower directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// The work directory, on the upper's filesystem.
    pub work: PathBuf,
    /// The mountpoint.
    pub merged: PathBuf,
    /// Where the kernel keeps its markers.
    pub markers: Markers,
    /// How the mount behaves.
    pub attributes: Attributes,
}

/// Which extended attributes hold the kernel's markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    /// `trusted.overlay.*`, for real root.
    Trusted,
    /// `user.overlay.*`, all that a user namespace may write.
    User,
}

impl Markers {
    /// Returns those that this process may write.
    pub fn here() -> Markers {
        if crate::in_first_user_namespace() {
            Markers::Trusted
        } else {
            Markers::User
        }
    }

    /// The attribute by which the kernel finds out whether the upper can hold markers.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Markers::Trusted => "trusted.overlay.opaque",
            Markers::User => "user.overlay.opaque",
        }
    }
}

/// The words of mount(8) that hold for every filesystem, as flags of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(MountFlags);

impl Default for Attributes {
    /// Returns what holds without options: no set-user-id bits and no devices, as no store
    /// object has either.
    fn default() -> Attributes {
        Attributes(MountFlags::NOSUID | MountFlags::NODEV)
    }
}

impl Attributes {
    /// Applies one word (`ro`, `nosuid`...); answers false if there is no such word.
    pub fn apply(&mut self, word: &[u8]) -> bool {
        let (set, clear) = match word {
            b"ro" => (MountFlags::RDONLY, MountFlags::empty()),
            b"rw" => (MountFlags::empty(), MountFlags::RDONLY),
            b"nosuid" => (MountFlags::NOSUID, MountFlags::empty()),
            b"suid" => (MountFlags::empty(), MountFlags::NOSUID),
            b"nodev" => (MountFlags::NODEV, MountFlags::empty()),
            b"dev" => (MountFlags::empty(), MountFlags::NODEV),
            b"noexec" => (MountFlags::NOEXEC, MountFlags::empty()),
            b"exec" => (MountFlags::empty(), MountFlags::NOEXEC),
            b"sync" => (MountFlags::SYNCHRONOUS, MountFlags::empty()),
            b"async" => (MountFlags::empty(), MountFlags::SYNCHRONOUS),
            b"dirsync" => (MountFlags::DIRSYNC, MountFlags::empty()),
            b"noatime" => (MountFlags::NOATIME, Self::TIMES),
            b"strictatime" => (MountFlags::STRICTATIME, Self::TIMES),
            b"relatime" | b"atime" | b"norelatime" | b"nostrictatime" => {
                (MountFlags::empty(), Self::TIMES)
            }
            b"nodiratime" => (MountFlags::NODIRATIME, MountFlags::empty()),
            b"diratime" => (MountFlags::empty(), MountFlags::NODIRATIME),
            b"user" | b"users" => (
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                MountFlags::empty(),
            ),
            b"owner" | b"group" => (MountFlags::NOSUID | MountFlags::NODEV, MountFlags::empty()),
            _ => return false,
        };
        self.0 = self.0.difference(clear).union(set);
        true
    }

    const TIMES: MountFlags = MountFlags::NOATIME
        .union(MountFlags::STRICTATIME)
        .union(MountFlags::RELATIME);

    /// Returns the attributes that a mount has now.
    pub(crate) fn from_flags(flags: MountFlags) -> Attributes {
        Attributes(flags)
    }

    /// Whether every change is refused.
    pub fn read_only(self) -> bool {
        self.0.contains(MountFlags::RDONLY)
    }

    pub(crate) fn flags(self) -> MountFlags {
        self.0
    }

    /// Returns those that belong to the mount, as the new mount API takes them.
    pub(crate) fn of_mount(self) -> MountAttrFlags {
        [
            (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
            (
                MountFlags::STRICTATIME,
                MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            ),
            (
                MountFlags::NODIRATIME,
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            ),
        ]
        .into_iter()
        .filter(|(flag, _)| self.0.contains(*flag))
        .map(|(_, attribute)| attribute)
        .collect()
    }

    /// Returns those that belong to the filesystem, by the names the new mount API has for them.
    pub(crate) fn of_filesystem(self) -> impl Iterator<Item = &'static str> {
        [
            (MountFlags::RDONLY, "ro"),
            (MountFlags::SYNCHRONOUS, "sync"),
            (MountFlags::DIRSYNC, "dirsync"),
        ]
        .into_iter()
        .filter(move |(flag, _)| self.0.contains(*flag))
        .map(|(_, name)| name)
    }
}
