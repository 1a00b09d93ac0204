// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving names.
//!
//! Invariant: a rename is one `renameat2` in the upper or nothing; with repair also a change of
//! what is hidden, which is undone if that fails. A whiteout that a directory replaces goes by a
//! second call, which leaves it at the old name if the driver ends in between.

use super::directory::{UpperDir, errno};
use super::locate::Sides;
use super::lookup::Survey;
use super::node::{Merging, NodeId};
use super::{LINKS, MergedFs, Outcome};
use crate::layer::{Errno, LayerId, Stat};
use crate::merge::{self, Resolution, Side};
use std::os::fd::{AsFd, OwnedFd};

/// `RENAME_EXCHANGE` of `renameat2(2)`.
pub(super) const EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT` of `renameat2(2)`.
const WHITEOUT: u32 = 4;
/// `RENAME_NOREPLACE` of `renameat2(2)`.
pub(super) const NOREPLACE: u32 = 1;

/// Both ends of a rename, with what is there.
struct Ends<'a> {
    from: (NodeId, &'a [u8]),
    to: (NodeId, &'a [u8]),
    source: Survey,
    target: Survey,
    flags: u32,
}

impl Ends<'_> {
    fn exchange(&self) -> bool {
        self.flags & EXCHANGE != 0
    }

    /// Whether both are names of one object, of which nothing would be moved.
    fn same(&self) -> bool {
        let object = |stat: Stat| (stat.ino, stat.birth);
        self.source.upper.is_some()
            && self.source.upper.map(object) == self.target.upper.map(object)
    }

    /// Whether a directory would become `.links` or stop being it: 0/0 devices inside are shown in
    /// the one and not in the other, and the kernel knows them by what they were.
    fn moves_links(&self) -> bool {
        let is_links = |end: (NodeId, &[u8])| end.0 == NodeId::ROOT && end.1 == LINKS;
        let moves_dir = self.source.upper_is_dir() || self.exchange() && self.target.upper_is_dir();
        moves_dir && (is_links(self.from) || is_links(self.to))
    }
}

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
        let ends = Ends {
            from,
            to,
            source,
            target,
            flags,
        };
        if flags & WHITEOUT != 0 && ends.source.lower_present() {
            // The device that is left behind would hide the lower name.
            return Err(Errno::INVAL);
        }
        if ends.moves_links() {
            return Err(Errno::XDEV);
        }
        let _moving = self.moving.read();
        if self.may_set_aside(&ends) {
            return self.set_aside(&ends, user);
        }
        let covers = self.covers(&ends);
        let place = Side {
            lower_has_dir: ends.target.lower_has_dir() && !covers,
            ..side(&ends.target)
        };
        merge::may_rename(side(&ends.source), place, ends.exchange()).map_err(errno)?;
        self.check_target(&to_sides, to, &ends.target, flags)?;
        let repairs = self.repairs(&ends.source) && !ends.exchange() && !ends.same();
        let hiding = match repairs {
            true => Some(self.hide(from.0, &from_sides, from.1)?),
            false => None,
        };
        let dirs = UpperDir::of(from_sides).and_then(|dir| Ok((dir, UpperDir::of(to_sides)?)));
        let renamed = dirs.and_then(|dirs| self.rename_covering(&ends, &dirs, covers, user));
        match (renamed, hiding) {
            (Ok(()), Some(hiding)) => self.settle(hiding, &ends.source),
            (Err(errno), Some(hiding)) => {
                self.unhide(hiding, from.0, from.1);
                return Err(errno);
            }
            (renamed, None) => renamed?,
        }
        self.replaced(to.0, to.1);
        Ok(())
    }

    /// Renames in the upper, if need be with an opaque mark that goes again if that fails.
    fn rename_covering(
        &self,
        ends: &Ends<'_>,
        (from, to): &(UpperDir, UpperDir),
        covers: bool,
        user: u32,
    ) -> Outcome<()> {
        let cover = if covers {
            self.cover(from, ends)?
        } else {
            None
        };
        let renamed = self.rename_upper(ends, from, to, user);
        if ends.from.0 == NodeId::ROOT && renamed.is_ok() {
            self.hot.leaves(ends.from.1);
        }
        if let (Err(_), Some(cover)) = (&renamed, &cover)
            && let Err(why) = self.upper.clear_opaque(cover.as_fd())
        {
            log::warn!("take an opaque mark off again: {why}");
        }
        renamed
    }

    /// Renames in the upper and tells the nodes.
    fn rename_upper(
        &self,
        ends: &Ends<'_>,
        from_dir: &UpperDir,
        to_dir: &UpperDir,
        user: u32,
    ) -> Outcome<()> {
        let (from, to, target) = (ends.from, ends.to, &ends.target);
        let moved = ends
            .source
            .upper
            .as_ref()
            .and_then(|stat| self.node_of(LayerId::Upper, stat));
        let met = target
            .upper
            .as_ref()
            .and_then(|stat| self.node_of(LayerId::Upper, stat));
        let replaced = match &target.upper {
            Some(stat) if !ends.exchange() && met != moved => {
                self.hold((to.0, to_dir.fd()), to.1, stat, user)?
            }
            _ => None,
        };
        // A whiteout at the target does not exist for the caller.
        let flags = if target.whiteout() {
            ends.flags & !NOREPLACE
        } else {
            ends.flags
        };
        let (old, new) = ((from_dir.fd(), from.1), (to_dir, to.1));
        let renamed = match target.whiteout() && ends.source.upper_is_dir() {
            true => self.replace_whiteout(old, new, target),
            false => self.upper.rename(old, (to_dir.fd(), to.1), flags),
        };
        if moved.is_some() && moved == met {
            // Two names of one object: the rename did nothing.
            return renamed;
        }
        self.after(replaced, renamed, to.0, to.1)?;
        if let Some(id) = moved {
            self.moved_to(id, from, to);
        }
        if let (true, Some(id)) = (ends.exchange(), met) {
            self.moved_to(id, to, from);
        }
        Ok(())
    }

    /// Tells a node its new name. The kernel does not look that up: what comes to be under it in the
    /// lower is followed from here on.
    fn moved_to(&self, id: NodeId, from: (NodeId, &[u8]), to: (NodeId, &[u8])) {
        self.table.moved(id, from, to);
        if to.0 == NodeId::ROOT {
            self.tops.remember(to.1, id);
        }
    }

    /// Whether an upper directory is to stand where a whiteout hides a lower one, or where repair
    /// took it, or all that it held, out of sight: it must be opaque then.
    fn covers(&self, ends: &Ends<'_>) -> bool {
        let target = &ends.target;
        let emptied = |stat: Stat| self.hidden.hides_in((stat.ino, stat.birth));
        let merged = target.shown == Resolution::Merged;
        let repaired = || target.conceals_dir() || merged && target.lower.is_some_and(emptied);
        !ends.exchange()
            && ends.source.upper_is_dir()
            && (target.whiteout() && target.lower_has_dir() || self.hidden.any() && repaired())
    }

    /// Marks the directory that is about to be moved; returns it unless it was marked already.
    fn cover(&self, from_dir: &UpperDir, ends: &Ends<'_>) -> Outcome<Option<OwnedFd>> {
        let source = ends.source.upper.ok_or(Errno::STALE)?;
        let object = self.upper.open_dir(from_dir.fd(), ends.from.1)?;
        let stat = self.upper.stat(object.as_fd())?;
        if (stat.ino, stat.birth) != (source.ino, source.birth) {
            return Err(Errno::STALE);
        }
        if self.upper.marks(object.as_fd())?.opaque {
            return Ok(None);
        }
        self.mark_opaque(object.as_fd())?;
        self.set_merging(&source, Merging::Opaque);
        Ok(Some(object))
    }

    fn set_merging(&self, upper: &Stat, merging: Merging) {
        if let Some(id) = self.node_of(LayerId::Upper, upper) {
            // A node that was forgotten meanwhile reads the marks when it comes back.
            let _forgotten = self.table.with_mut(id, |node| node.merging = merging);
        }
    }

    /// Whether repair may let a lower top-level object go by another name: a free one, and none
    /// at which an upper directory would merge with what it has nothing to do with.
    fn may_set_aside(&self, ends: &Ends<'_>) -> bool {
        let from = ends.source.shown;
        let tops = ends.from.0 == NodeId::ROOT && ends.to.0 == NodeId::ROOT;
        let free = ends.target.shown == Resolution::Absent && ends.target.upper.is_none();
        let back = self.hidden.real_name(ends.from.1).as_deref() == Some(ends.to.1);
        self.hidden.on()
            && tops
            && matches!(from, Resolution::Lower | Resolution::Merged)
            && free
            && !ends.exchange()
            && ends.to.1 != LINKS
            && (from == Resolution::Lower || back || !ends.target.lower_has_dir())
    }

    /// Gives a lower top-level object another name; an upper side goes along on the disk.
    fn set_aside(&self, ends: &Ends<'_>, user: u32) -> Outcome<()> {
        let top = self.lower.stat(self.lower.root().as_fd())?;
        let top = (top.ino, top.birth);
        self.hidden.set_aside(top, ends.from.1, ends.to.1)?;
        if ends.source.upper.is_some() {
            let dir = || UpperDir::of(self.sides(NodeId::ROOT)?);
            let renamed = dir().and_then(|from| self.rename_upper(ends, &from, &dir()?, user));
            return renamed.inspect_err(|_| {
                if let Err(why) = self.hidden.set_aside(top, ends.to.1, ends.from.1) {
                    log::debug!("repair was switched off meanwhile: {why}");
                }
            });
        }
        let moved = ends
            .source
            .lower
            .as_ref()
            .and_then(|stat| self.node_of(LayerId::Lower, stat));
        if let Some(id) = moved {
            self.moved_to(id, ends.from, ends.to);
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
        if target.shown == Resolution::Merged && !self.lower_is_empty(to.0, sides, to.1)? {
            return Err(Errno::NOTEMPTY);
        }
        Ok(())
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
