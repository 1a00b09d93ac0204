// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upper side of a directory, where names change.

use super::Outcome;
use super::locate::Sides;
use crate::layer::Errno;
use crate::merge::Refusal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A directory that has an upper side.
#[derive(Debug)]
pub(super) struct UpperDir(Arc<OwnedFd>);

impl UpperDir {
    /// Takes the upper side; EROFS if there is none, ENOENT if the directory was removed.
    pub(super) fn of(sides: Sides) -> Outcome<UpperDir> {
        if sides.removed {
            return Err(Errno::NOENT);
        }
        sides.upper.map(UpperDir).ok_or(Errno::ROFS)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The errno of a refused change.
pub(super) fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::ReadOnly => Errno::ROFS,
        Refusal::CrossDevice => Errno::XDEV,
        Refusal::Stale => Errno::STALE,
    }
}
