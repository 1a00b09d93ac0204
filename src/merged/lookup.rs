// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking up names, and how long the kernel may keep the answers.
//!
//! Invariant: at most one `statx` per layer for a lookup in a directory that is in use. Lifetimes
//! are infinite wherever changes come through the mount only; the top directory and lower
//! objects that are still being filled get a short one.

use super::locate::{Sides, gone_is_stale};
use super::node::{Found, Merging, Node, NodeId};
use super::staging::is_reserved;
use super::{FOREVER, LINKS, MergedFs, Outcome};
use crate::layer::{Errno, Kind, LayerId, Lower, Stat, Upper};
use crate::merge::{Probe, Resolution, resolve};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long Nix may take to finish the rest of an object whose top is finished.
const GRACE: Duration = Duration::from_secs(60);

/// The answer to a lookup.
#[derive(Debug, Clone, Copy)]
pub enum Looked {
    /// The name is there.
    Found(Entry),
    /// The name is not there, and the kernel may believe so for this long.
    Absent(Duration),
}

/// A node together with everything the kernel wants to know on first sight of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The node, on which the kernel now holds one more reference.
    pub node: NodeId,
    /// Tells objects apart that had the same node number one after the other.
    pub generation: u64,
    /// The attributes; `ino` is what `stat` shows.
    pub attr: Stat,
    /// How long the name may be trusted to lead to the node.
    pub entry_ttl: Duration,
    /// How long the attributes may be trusted.
    pub attr_ttl: Duration,
}

/// What each layer has under one name of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Survey {
    pub(super) upper: Option<Stat>,
    pub(super) lower: Option<Stat>,
    pub(super) shown: Resolution,
    /// What repair has taken out of sight there.
    pub(super) concealed: Option<Stat>,
    /// Whether it is `.links` or in it, where nothing of the lower is shown.
    links: bool,
}

impl Survey {
    /// Whether the lower has a directory under the name, shown or hidden.
    pub(super) fn lower_has_dir(&self) -> bool {
        self.lower
            .or(self.concealed)
            .is_some_and(|stat| stat.kind == Kind::Directory)
    }

    /// Whether repair has taken a lower directory of the name out of sight.
    pub(super) fn conceals_dir(&self) -> bool {
        self.concealed
            .is_some_and(|stat| stat.kind == Kind::Directory)
    }

    /// Whether the lower has anything under the name, shown or hidden; in `.links` it always may.
    pub(super) fn lower_present(&self) -> bool {
        let lower = self.lower.or(self.concealed);
        self.links || lower.is_some_and(|stat| !stat.is_zero_device())
    }

    /// Whether the upper's object is a directory.
    pub(super) fn upper_is_dir(&self) -> bool {
        self.upper.is_some_and(|stat| stat.kind == Kind::Directory)
    }

    /// Whether the upper hides a lower name by a whiteout.
    pub(super) fn whiteout(&self) -> bool {
        self.shown == Resolution::Absent && self.upper.is_some()
    }
}

/// Builds the node of the merged directory itself.
pub(super) fn root_node(upper: &Upper, lower: &Lower) -> Outcome<Node> {
    let stat = upper.stat(upper.root().as_fd())?;
    let lower_dir = Some(lower.stat(lower.root().as_fd())?.ino);
    let merging = Merging::Merged;
    let found = Found {
        stat,
        layer: LayerId::Upper,
        lower_dir,
        merging,
        settled: true,
    };
    Ok(Node::new(NodeId::ROOT, b"", &found))
}

impl MergedFs {
    /// Looks up `name` in `parent`; a node that is found gains one reference of the kernel.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Outcome<Looked> {
        let looked = self.surviving(parent, || {
            self.lookup_in(parent, &self.sides(parent)?, name)
        });
        looked.or_else(|errno| self.still_known(parent, name, errno))
    }

    pub(super) fn lookup_in(&self, parent: NodeId, sides: &Sides, name: &[u8]) -> Outcome<Looked> {
        if is_reserved(parent, name) {
            return Ok(Looked::Absent(FOREVER));
        }
        let upper = self.probe_upper(sides, name)?;
        let decided = upper.is_some_and(|s| s.kind != Kind::Directory && !s.is_zero_device());
        let lower = if decided {
            None
        } else {
            self.probe_lower(parent, sides, name)?
        };
        let shown = self.resolved(parent, name, upper.as_ref(), lower.as_ref())?;
        let found = match (shown, upper, lower) {
            (Resolution::Upper | Resolution::Merged, Some(stat), lower) => {
                let found = self.found_upper(parent, sides, name, stat, lower)?;
                self.follow_found(&found)?;
                found
            }
            (Resolution::Lower, _, Some(stat)) => {
                if parent == NodeId::ROOT {
                    self.adopt_top(name, &stat)?;
                }
                self.found_lower(parent, stat)?
            }
            _ => {
                self.check_linked(sides)?;
                return Ok(Looked::Absent(self.absent_ttl(parent, name)?));
            }
        };
        let entry = self.enter(parent, name, &found)?;
        if let (false, Merging::Merged, Some(lower)) = (found.settled, found.merging, &lower) {
            self.listing_may_have_changed(entry.node, lower);
        }
        Ok(Looked::Found(entry))
    }

    /// Makes the node of what was found known to the kernel.
    pub(super) fn enter(&self, parent: NodeId, name: &[u8], found: &Found) -> Outcome<Entry> {
        let entry_ttl = self.entry_ttl(parent, name, found.settled)?;
        let node = self.table.admit(parent, name, found);
        if parent == NodeId::ROOT && (found.layer == LayerId::Upper || self.lower.renumbers()) {
            self.tops.remember(name, node);
        }
        let merged = found.merging == Merging::Merged && found.lower_dir.is_some();
        Ok(Entry {
            node,
            generation: u64::from(self.table.with(node, |node| node.generation)?),
            attr: self.shown(found.stat, merged),
            entry_ttl,
            attr_ttl: if found.settled {
                FOREVER
            } else {
                self.lower_ttl
            },
        })
    }

    /// The attributes as the merged view shows them.
    pub(super) fn shown(&self, mut stat: Stat, merged_dir: bool) -> Stat {
        self.ids.apply(&mut stat);
        if stat.kind == Kind::Directory
            && self.hidden.any()
            && let Some(mode) = self.hidden.mode_of((stat.ino, stat.birth))
        {
            stat.mode = mode;
        }
        if merged_dir {
            // The number of subdirectories of both sides is not known: 1 says so, as OverlayFS does.
            stat.nlink = 1;
        }
        stat
    }

    fn found_upper(
        &self,
        parent: NodeId,
        sides: &Sides,
        name: &[u8],
        stat: Stat,
        lower: Option<Stat>,
    ) -> Outcome<Found> {
        let lower = lower.filter(|s| s.kind == Kind::Directory && stat.kind == Kind::Directory);
        let merging = match (lower, &sides.upper) {
            (Some(_), Some(dir)) => self.merging_of(dir.as_fd(), name)?,
            _ => Merging::Unread,
        };
        let settled = match (parent, lower) {
            (NodeId::ROOT, Some(lower)) => is_sealed(&lower),
            (NodeId::ROOT, None) => true,
            _ => self.table.with(parent, |node| node.settled)?,
        };
        let lower_dir = lower.map(|stat| stat.ino);
        Ok(Found {
            stat,
            layer: LayerId::Upper,
            lower_dir,
            merging,
            settled,
        })
    }

    /// Whether an upper directory merges with the lower one. One that is marked in a way that we
    /// do not follow stays unread: to enter it is an error.
    pub(super) fn merging_of(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Outcome<Merging> {
        let marks = self.upper.marks_at(dir, name).map_err(gone_is_stale)?;
        Ok(match (marks.redirect, marks.opaque) {
            (true, _) => Merging::Unread,
            (false, true) => Merging::Opaque,
            (false, false) => Merging::Merged,
        })
    }

    fn found_lower(&self, parent: NodeId, stat: Stat) -> Outcome<Found> {
        let settled = self.settled_below(parent, &stat)?;
        Ok(Found {
            stat,
            layer: LayerId::Lower,
            lower_dir: None,
            merging: Merging::Unread,
            settled,
        })
    }

    /// How long the kernel may believe that there is no such name.
    fn absent_ttl(&self, parent: NodeId, name: &[u8]) -> Outcome<Duration> {
        let told = parent != NodeId::ROOT || self.tops.remember_absent(name);
        self.entry_ttl(parent, name, told)
    }

    /// How long a name may be trusted to lead to the same object, or to nothing.
    fn entry_ttl(&self, parent: NodeId, name: &[u8], settled: bool) -> Outcome<Duration> {
        let old_on_its_way = parent == NodeId::ROOT && !self.hot.may_last(name);
        if old_on_its_way || self.rests_on_repair(parent, name) {
            return Ok(Duration::ZERO);
        }
        let lasting = match parent {
            NodeId::ROOT => settled && self.watching.on(),
            _ => self.table.with(parent, |node| node.settled)?,
        };
        Ok(if lasting { FOREVER } else { self.lower_ttl })
    }

    /// A directory that was deleted behind the mount has no names; that says nothing about the
    /// directory which the path leads to now. With a lower side it does: that is what shows then.
    pub(super) fn check_linked(&self, sides: &Sides) -> Outcome<()> {
        match (&sides.upper, &sides.lower) {
            (Some(dir), None) if !sides.removed => {
                let linked = self.upper.stat(dir.as_fd())?.nlink > 0;
                if linked { Ok(()) } else { Err(Errno::STALE) }
            }
            _ => Ok(()),
        }
    }

    pub(super) fn probe_upper(&self, sides: &Sides, name: &[u8]) -> Outcome<Option<Stat>> {
        match &sides.upper {
            Some(dir) => self.upper.probe(dir.as_fd(), name),
            None => Ok(None),
        }
    }

    pub(super) fn probe_lower(
        &self,
        parent: NodeId,
        sides: &Sides,
        name: &[u8],
    ) -> Outcome<Option<Stat>> {
        match &sides.lower {
            Some(_) if parent == NodeId::ROOT && name == LINKS => Ok(None),
            Some(dir) => match self.lower_name(parent, dir.as_fd(), name)? {
                Some(name) => self.lower.probe(dir.as_fd(), &name),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Finds out everything about a name, for a change of it.
    pub(super) fn surveyed(&self, parent: NodeId, name: &[u8]) -> Outcome<(Sides, Survey)> {
        if is_reserved(parent, name) {
            return Err(Errno::PERM);
        }
        self.surviving(parent, || {
            let sides = self.sides(parent)?;
            let survey = self.survey(parent, &sides, name)?;
            Ok((sides, survey))
        })
    }

    fn survey(&self, parent: NodeId, sides: &Sides, name: &[u8]) -> Outcome<Survey> {
        let upper = self.probe_upper(sides, name)?;
        let lower = self.probe_lower(parent, sides, name)?;
        let mut shown = self.resolved(parent, name, upper.as_ref(), lower.as_ref())?;
        if let (Resolution::Merged, Some(dir)) = (shown, &sides.upper)
            && self.merging_of(dir.as_fd(), name)? == Merging::Opaque
        {
            shown = Resolution::Upper;
        }
        Ok(Survey {
            upper,
            lower,
            shown,
            concealed: self.concealed(parent, sides, name)?,
            links: self.is_links(parent, name)?,
        })
    }

    /// Resolves a name. A whiteout of another backend in `.links` hides what is not shown anyway.
    fn resolved(
        &self,
        parent: NodeId,
        name: &[u8],
        upper: Option<&Stat>,
        lower: Option<&Stat>,
    ) -> Outcome<Resolution> {
        let whiteout = upper.is_some_and(Stat::is_zero_device);
        if whiteout && self.is_links(parent, name)? {
            return Ok(Resolution::Absent);
        }
        Ok(resolve(probe(upper), probe(lower)))
    }

    /// Whether a name is `.links` or in it.
    pub(super) fn is_links(&self, parent: NodeId, name: &[u8]) -> Outcome<bool> {
        let at_top = |parent, name: &[u8]| parent == NodeId::ROOT && name == LINKS;
        match parent {
            NodeId::ROOT => Ok(at_top(parent, name)),
            _ => self
                .table
                .with(parent, |node| at_top(node.parent, &node.name)),
        }
    }
}

/// Whether a lower top-level object will not change any more: it looks finished, and has done so for
/// a while. Nix finishes the top of an object before what is below.
pub(super) fn is_sealed(lower: &Stat) -> bool {
    lower.is_canonical() && lower.unchanged_for().is_some_and(|age| age > GRACE)
}

/// What one layer has, in the terms of the rules. Opaque marks are read when they matter.
fn probe(stat: Option<&Stat>) -> Probe {
    match stat {
        None => Probe::Absent,
        Some(stat) if stat.is_zero_device() => Probe::Whiteout,
        Some(stat) if stat.kind == Kind::Directory => Probe::Directory { opaque: false },
        Some(_) => Probe::Leaf,
    }
}
