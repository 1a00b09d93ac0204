// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving names.
//!
//! Invariant: a rename is one `renameat2` in the upper or nothing.

use super::directory::{UpperDir, errno};
use super::locate::Sides;
use super::lookup::Survey;
use super::node::NodeId;
use super::{MergedFs, Outcome};
use crate::layer::{Errno, Listed};
use crate::merge::{self, Resolution, Side};
use std::os::fd::AsFd;

/// `RENAME_EXCHANGE` of `renameat2(2)`.
const EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT` of `renameat2(2)`.
const WHITEOUT: u32 = 4;
/// `RENAME_NOREPLACE` of `renameat2(2)`.
const NOREPLACE: u32 = 1;

impl MergedFs {
    /// Moves `from` to `to` with the flags of `renameat2(2)`.
    pub fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        flags: u32,
        user: u32,
    ) -> Outcome<()> {
        let (from_sides, source) = self.surveyed(from.0, from.1)?;
        let (to_sides, target) = self.surveyed(to.0, to.1)?;
        let exchange = flags & EXCHANGE != 0;
        if flags & WHITEOUT != 0 && source.lower_present() {
            // The device that is left behind would hide the lower name.
            return Err(Errno::INVAL);
        }
        merge::may_rename(side(&source), side(&target), exchange).map_err(errno)?;
        self.check_target(&to_sides, to, &target, flags)?;
        let (from_dir, to_dir) = (UpperDir::of(from_sides)?, UpperDir::of(to_sides)?);
        let _moving = self.moving.read();
        let moved = source.upper.as_ref().and_then(|stat| self.node_of(stat));
        let met = target.upper.as_ref().and_then(|stat| self.node_of(stat));
        let replaced = match &target.upper {
            Some(stat) if !exchange && met != moved => {
                self.hold((to.0, to_dir.fd()), to.1, stat, user)?
            }
            _ => None,
        };
        // A whiteout at the target does not exist for the caller.
        let flags = if target.whiteout() {
            flags & !NOREPLACE
        } else {
            flags
        };
        let (old, new) = ((from_dir.fd(), from.1), (to_dir.fd(), to.1));
        let renamed = self.upper.rename(old, new, flags);
        if moved.is_some() && moved == met {
            // Two names of one object: the rename did nothing.
            return renamed;
        }
        self.after(replaced, renamed, to.0, to.1)?;
        if let Some(id) = moved {
            self.table.moved(id, from, to);
        }
        if let (true, Some(id)) = (exchange, met) {
            self.table.moved(id, to, from);
        }
        Ok(())
    }

    fn check_target(
        &self,
        sides: &Sides,
        to: (NodeId, &[u8]),
        target: &Survey,
        flags: u32,
    ) -> Outcome<()> {
        if flags & EXCHANGE != 0 {
            return if target.shown == Resolution::Absent {
                Err(Errno::NOENT)
            } else {
                Ok(())
            };
        }
        if flags & NOREPLACE != 0 && target.shown != Resolution::Absent {
            return Err(Errno::EXIST);
        }
        if target.shown == Resolution::Merged && !self.lower_is_empty(sides, to.1)? {
            return Err(Errno::NOTEMPTY);
        }
        Ok(())
    }

    /// Whether the lower directory `name` shows nothing.
    fn lower_is_empty(&self, sides: &Sides, name: &[u8]) -> Outcome<bool> {
        let Some(parent) = &sides.lower else {
            return Ok(true);
        };
        let dir = self.lower.open_dir(parent.as_fd(), name)?;
        let mut empty = true;
        self.lower.read_dir(dir.as_fd(), 0, |entry| {
            empty &= entry.is_dots();
            Ok::<_, Errno>(if empty { Listed::More } else { Listed::Full })
        })?;
        Ok(empty)
    }
}

fn side(survey: &Survey) -> Side {
    Side {
        shown: survey.shown,
        upper_is_dir: survey.upper_is_dir(),
        upper_is_whiteout: survey.upper.is_some_and(|stat| stat.is_zero_device()),
        lower_present: survey.lower_present(),
        lower_has_dir: survey.lower_has_dir(),
    }
}
