// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repair: removing lower names from sight, so that good objects can be put in their place.
//!
//! Invariant: the lower is never touched, and nothing is lost: a name that was hidden and not
//! replaced is back when repair is switched off or the driver ends. The kernel is never told to
//! keep an answer that rests on what is hidden.

use super::directory::UpperDir;
use super::hidden::{Ended, Hiding, RepairStatus};
use super::list::Scan;
use super::locate::{Circle, Sides};
use super::lookup::{Looked, Survey};
use super::node::NodeId;
use super::{AttrChange, Attributes, LINKS, MergedFs, Notice, Outcome};
use crate::layer::{Errno, Kind, LayerId, Listed, Stat, TimeChange};
use crate::merge::{Item, Resolution};
use hashbrown::HashSet;
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

impl MergedFs {
    /// Switches repair on or off. Off, everything hidden shows again, and the kernel is to be told.
    pub fn set_repair(&self, on: bool) -> Outcome<()> {
        if on && self.read_only {
            return Err(Errno::ROFS);
        }
        // Nobody is between hiding a name and what follows from it.
        let _moving = self.moving.write();
        let ended = self.hidden.switch(on);
        log::info!("repair is {}", if on { "on" } else { "off" });
        self.show_again(&ended);
        Ok(())
    }

    /// Shows everything that is hidden, because its directories have other numbers from now on;
    /// repair stays as it is.
    pub(super) fn hides_no_more(&self) {
        if self.hidden.any() {
            log::warn!("the lower came back: what was hidden and not replaced shows again");
            let on = self.hidden.on();
            let ended = self.hidden.switch(false);
            self.hidden.switch(on);
            self.show_again(&ended);
        }
    }

    /// Says whether repair is on and what it hides.
    pub fn repair_status(&self) -> RepairStatus {
        self.hidden.status()
    }

    fn show_again(&self, ended: &Ended) {
        for (alias, real) in &ended.aliases {
            self.leave_alias(alias, real);
            self.notify(Notice::Name {
                parent: NodeId::ROOT,
                name: alias.clone(),
            });
        }
        let top = self.top_dir();
        let tops = ended.names.iter().filter(|(dir, _)| Some(*dir) == top);
        for (_, name) in tops {
            self.notify(Notice::Name {
                parent: NodeId::ROOT,
                name: name.clone(),
            });
        }
        let dirs: HashSet<_> = ended.dirs.iter().collect();
        let modes: HashSet<_> = ended.modes.iter().collect();
        let mut notices = Vec::new();
        self.table.for_each(|id, node| {
            let Some(lower) = &node.lower else { return };
            if dirs.contains(lower) {
                notices.push(Notice::Contents { node: id });
            } else if modes.contains(lower) {
                notices.push(Notice::Attributes { node: id });
            }
        });
        for notice in notices {
            self.notify(notice);
        }
    }

    /// Takes the nodes of a lower object that was set aside back to its real name.
    fn leave_alias(&self, alias: &[u8], real: &[u8]) {
        let mut standing = Vec::new();
        self.table.for_each(|id, node| {
            if node.is_at(NodeId::ROOT, alias) && node.lower.is_some() && node.held.is_none() {
                standing.push((id, node.layer()));
            }
        });
        for (id, layer) in standing {
            if layer == LayerId::Lower {
                let (from, to) = ((NodeId::ROOT, alias), (NodeId::ROOT, real));
                self.table.moved(id, from, to);
                continue;
            }
            // Only the upper side stands there now.
            if let Err(errno) = self.follow_lower_side(id) {
                log::warn!("{}: {errno}", alias.escape_ascii());
            }
        }
    }

    fn top_dir(&self) -> Option<crate::layer::Ino> {
        self.table.with(NodeId::ROOT, |node| node.lower).ok()?
    }

    /// Returns under which name the lower directory `dir` of `parent` has what shows as `name`;
    /// `None` if that is hidden.
    pub(super) fn lower_name<'a>(
        &self,
        parent: NodeId,
        dir: BorrowedFd<'_>,
        name: &'a [u8],
    ) -> Outcome<Option<Cow<'a, [u8]>>> {
        if !self.hidden.any() {
            return Ok(Some(Cow::Borrowed(name)));
        }
        if parent == NodeId::ROOT
            && let Some(real) = self.hidden.real_name(name)
        {
            return Ok(Some(Cow::Owned(real.into_vec())));
        }
        let hidden = self.hides(parent, dir, name)?;
        Ok((!hidden).then_some(Cow::Borrowed(name)))
    }

    /// Whether `name` of the lower directory `dir` of `parent` is hidden.
    pub(super) fn hides(&self, parent: NodeId, dir: BorrowedFd<'_>, name: &[u8]) -> Outcome<bool> {
        if !self.hidden.any() {
            return Ok(false);
        }
        let Some(number) = self.table.with(parent, |node| node.lower)? else {
            return Ok(false);
        };
        match self.hidden.hides(number, name) {
            None => Ok(false),
            Some(birth) => Ok(self.lower.stat(dir)?.birth == birth),
        }
    }

    /// Where the object of a node named `name` stands in a layer.
    pub(super) fn standing_at(&self, parent: NodeId, layer: LayerId, name: Box<[u8]>) -> Box<[u8]> {
        if layer == LayerId::Lower && parent == NodeId::ROOT && self.hidden.any() {
            return self.hidden.real_name(&name).unwrap_or(name);
        }
        name
    }

    /// Whether what shows under a name, or that nothing does, rests on repair.
    pub(super) fn rests_on_repair(&self, parent: NodeId, name: &[u8]) -> bool {
        if !self.hidden.any() {
            return false;
        }
        let aside = parent == NodeId::ROOT && self.hidden.real_name(name).is_some();
        let number = self.table.with(parent, |node| node.lower).ok().flatten();
        aside || number.is_some_and(|number| self.hidden.hides(number, name).is_some())
    }

    /// What the lower really has under a name that is hidden or stands for another one.
    pub(super) fn concealed(
        &self,
        parent: NodeId,
        sides: &Sides,
        name: &[u8],
    ) -> Outcome<Option<Stat>> {
        match &sides.lower {
            Some(dir) if self.rests_on_repair(parent, name) => self.lower.probe(dir.as_fd(), name),
            _ => Ok(None),
        }
    }

    /// Brings a scan of the lower directory `dir` of node `id` in line with what is shown of it.
    pub(super) fn show_lower(
        &self,
        id: NodeId,
        dir: BorrowedFd<'_>,
        scan: &mut Scan,
    ) -> Outcome<()> {
        if id == NodeId::ROOT {
            scan.retain(|(name, _)| **name != *LINKS && !super::staging::is_reserved(id, name));
        }
        if !self.hidden.any() {
            return Ok(());
        }
        let stat = self.lower.stat(dir)?;
        let hides = |name: &[u8]| self.hidden.hides(stat.ino, name) == Some(stat.birth);
        scan.retain(|(name, _)| !hides(name));
        if id != NodeId::ROOT {
            return Ok(());
        }
        for (alias, real) in self.hidden.aliases() {
            scan.retain(|(name, _)| *name != alias);
            if let Some(stat) = self.lower.probe(dir, &real)? {
                let info = (stat.ino, stat.kind);
                let whiteout = stat.is_zero_device();
                scan.push((alias, Item { info, whiteout }));
            }
        }
        Ok(())
    }

    /// Whether the lower directory `name` shows nothing.
    pub(super) fn lower_is_empty(
        &self,
        parent: NodeId,
        sides: &Sides,
        name: &[u8],
    ) -> Outcome<bool> {
        let Some(dir) = &sides.lower else {
            return Ok(true);
        };
        let Some(name) = self.lower_name(parent, dir.as_fd(), name)? else {
            return Ok(true);
        };
        let dir = self.lower.open_dir(dir.as_fd(), &name)?;
        let stat = self.lower.stat(dir.as_fd())?;
        let mut empty = true;
        self.lower.read_dir(dir.as_fd(), 0, |entry| {
            let gone =
                self.hidden.any() && self.hidden.hides(stat.ino, entry.name) == Some(stat.birth);
            empty &= entry.is_dots() || gone;
            Ok::<_, Errno>(if empty { Listed::More } else { Listed::Full })
        })?;
        Ok(empty)
    }

    /// Whether the removal of a name has to hide a lower object as well.
    pub(super) fn repairs(&self, survey: &Survey) -> bool {
        self.hidden.on()
            && survey.shown != Resolution::Absent
            && survey.lower.is_some_and(|stat| !stat.is_zero_device())
    }

    /// Removes `name` from the upper and from sight.
    pub(super) fn remove_both(
        &self,
        (parent, name): (NodeId, &[u8]),
        sides: Sides,
        survey: &Survey,
        user: u32,
        directory: bool,
    ) -> Outcome<()> {
        if directory {
            self.check_empty(parent, &sides, name, survey)?;
        } else if survey
            .upper
            .or(survey.lower)
            .is_some_and(|stat| stat.kind == Kind::Directory)
        {
            return Err(Errno::ISDIR);
        }
        let hiding = self.hide(parent, &sides, name)?;
        let removed = match survey.upper {
            Some(upper) => UpperDir::of(sides)
                .and_then(|dir| self.remove_upper(parent, &dir, name, &upper, user, directory)),
            None => Ok(()),
        };
        if let Err(errno) = removed {
            self.unhide(hiding, parent, name);
            return Err(errno);
        }
        self.settle(hiding, survey);
        Ok(())
    }

    fn check_empty(
        &self,
        parent: NodeId,
        sides: &Sides,
        name: &[u8],
        survey: &Survey,
    ) -> Outcome<()> {
        let shown = survey.upper.or(survey.lower);
        if shown.is_some_and(|stat| stat.kind != Kind::Directory) {
            return Err(Errno::NOTDIR);
        }
        // Of an opaque directory the lower one shows nothing.
        if survey.shown != Resolution::Upper && !self.lower_is_empty(parent, sides, name)? {
            return Err(Errno::NOTEMPTY);
        }
        Ok(())
    }

    /// Hides the lower's `name`, whatever it shows.
    pub(super) fn hide(&self, parent: NodeId, sides: &Sides, name: &[u8]) -> Outcome<Hiding> {
        let dir = sides.lower.as_ref().ok_or(Errno::STALE)?;
        let stat = self.lower.stat(dir.as_fd())?;
        let top = self.top_dir().ok_or(Errno::STALE)?;
        let path = self.path_of(parent, name)?;
        self.hidden.hide(top, (stat.ino, stat.birth), name, path)
    }

    /// Brings a name back whose removal failed. Whoever looked it up meanwhile saw the upper's
    /// object alone: its node learns of the lower one again.
    pub(super) fn unhide(&self, hiding: Hiding, parent: NodeId, name: &[u8]) {
        self.hidden.undo(hiding);
        // Not by `lookup`, which may wait for those who change names: the caller is one of them.
        let looked = self
            .sides(parent)
            .and_then(|sides| self.lookup_in(parent, &sides, name));
        if let Ok(Looked::Found(entry)) = looked {
            self.forget(entry.node, 1);
        }
    }

    /// Ends what was remembered of a lower object, once its name is gone for good.
    pub(super) fn settle(&self, hiding: Hiding, survey: &Survey) {
        if let Hiding::Alias { name, real, .. } = &hiding {
            self.leave_alias(name, real);
        }
        if let Some(lower) = survey.lower.filter(|stat| stat.kind == Kind::Directory) {
            self.hidden.emptied((lower.ino, lower.birth));
            self.end_node(&lower);
        }
    }

    fn end_node(&self, directory: &Stat) {
        if let Some(id) = self.node_of(LayerId::Lower, directory) {
            // One that was forgotten meanwhile is forgotten by the kernel too.
            let _forgotten = self.table.with_mut(id, |node| node.dead = true);
        }
    }

    /// Says that an upper object stands at `name` now, which needs no lower one to be hidden.
    pub(super) fn replaced(&self, parent: NodeId, name: &[u8]) {
        let number = self.table.with(parent, |node| node.lower);
        if let Ok(Some(number)) = number {
            self.hidden.replaced(number, name);
        }
    }

    fn path_of(&self, parent: NodeId, name: &[u8]) -> Outcome<Box<[u8]>> {
        let mut names = vec![Box::from(name)];
        let (mut at, mut circle) = (parent, Circle::new(parent));
        while at != NodeId::ROOT {
            let (above, name) = self
                .table
                .with(at, |node| (node.parent, node.name.clone()))?;
            names.push(name);
            at = above;
            circle.step(at)?;
        }
        names.reverse();
        Ok(names.join(&b'/').into())
    }

    /// Has a lower directory show another mode, if that is all that is asked for: whoever empties
    /// it makes it writable first.
    pub(super) fn pretend_mode(
        &self,
        id: NodeId,
        change: &AttrChange,
    ) -> Outcome<Option<Attributes>> {
        let times = [change.times.atime, change.times.mtime];
        let alone = change.uid.or(change.gid).is_none()
            && change.size.is_none()
            && times == [TimeChange::Keep; 2];
        let (Some(mode), true) = (change.mode, alone && self.hidden.on()) else {
            return Ok(None);
        };
        let mode = u16::try_from(mode & 0o7777).map_err(|_| Errno::INVAL)?;
        let stat = self.surviving(id, || {
            let located = self.locate(id)?;
            if (located.layer, located.kind) != (LayerId::Lower, Kind::Directory) {
                return Ok(None);
            }
            self.stat_of(&located).map(Some)
        })?;
        let Some(stat) = stat else { return Ok(None) };
        self.hidden.set_mode((stat.ino, stat.birth), mode)?;
        self.answer(id, stat).map(Some)
    }
}
