// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked for: the directories, and how the mount behaves. Nothing is looked at yet.

use crate::words::Attributes;
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
