// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listing directories.
//!
//! A directory of one layer is passed on as the layer lists it, with the positions of its own
//! filesystem; nothing is kept. A merged one, and one whose filesystem has no positions that last,
//! is kept in memory and read again, one side at a time, when that side has changed. Invariant:
//! positions do not move.

use super::locate::Sides;
use super::lookup::{Entry, Looked};
use super::node::NodeId;
use super::staging::is_reserved;
use super::{MergedFs, Notice, Outcome};
use crate::layer::{DirEntry, Errno, Ino, Kind, LayerId, Listed, Stat, Timestamp, Tree};
use crate::merge::{Item, Listing};
use parking_lot::Mutex;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Positions of a merged listing that `.` and `..` take.
const DOTS: u64 = 2;

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct ListItem<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its number, the same that `stat` shows.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// The position of the entry after this one.
    pub next: u64,
}

impl ListItem<'_> {
    /// Whether this is `.` or `..`.
    pub fn is_dots(&self) -> bool {
        self.name == b"." || self.name == b".."
    }
}

/// Entries that are looked up in one go; a reply of the kernel's usual size holds fewer.
const BATCH: usize = 256;

/// An entry on its own.
#[derive(Debug)]
struct OwnedItem {
    name: Box<[u8]>,
    item: ListItem<'static>,
}

pub(super) type Info = (Ino, Kind);
pub(super) type Scan = Vec<(Box<[u8]>, Item<Info>)>;

/// When a directory was last seen: its number, times of content and of attributes.
type Stamp = (Ino, Timestamp, Timestamp);

/// What is kept of a directory.
#[derive(Debug, Default)]
pub(super) struct KeptListing {
    listing: Listing<Info>,
    /// Whether all sides were read at least once.
    read: bool,
    upper: Side,
    lower: Side,
    /// What repair hid when the lower was read, see [`super::hidden::Hidden::version`].
    hidden: u64,
}

/// What is known of one side of a kept listing.
#[derive(Debug, Default, Clone, Copy)]
struct Side {
    /// Whether it was there when the directory was last read.
    there: bool,
    /// Its stamp then; none if it may have changed without a sign since.
    stamp: Option<Stamp>,
}

impl MergedFs {
    /// Calls `each` for the entries of a directory from `position` (0 or some entry's `next`)
    /// until it says [`Listed::Full`] or the directory ends.
    pub fn list(
        &self,
        id: NodeId,
        position: u64,
        mut each: impl FnMut(ListItem<'_>) -> Listed,
    ) -> Outcome<()> {
        self.in_parts(id, |added| {
            let mut counted = |item: ListItem<'_>| {
                let listed = each(item);
                *added += usize::from(listed == Listed::More);
                Ok(listed)
            };
            self.list_sides(id, &self.live_sides(id)?, position, &mut counted)
        })
    }

    /// Runs one part of a listing, which counts what it added to the answer. An error after the
    /// first entry ends the part, and the next part starts with it: only an empty answer is the end
    /// of a directory, and only without an entry an error. Until then the lower is asked again.
    fn in_parts(&self, id: NodeId, mut part: impl FnMut(&mut usize) -> Outcome<()>) -> Outcome<()> {
        let mut added = 0;
        self.once_more(id, || match part(&mut added) {
            Err(_) if added > 0 => Ok(()),
            outcome => outcome,
        })
    }

    fn list_sides(
        &self,
        id: NodeId,
        sides: &Sides,
        position: u64,
        each: &mut impl FnMut(ListItem<'_>) -> Outcome<Listed>,
    ) -> Outcome<()> {
        if id == NodeId::ROOT {
            self.top_is_listed();
        }
        // One that was merged when somebody began to read it keeps its positions.
        let kept = self.listings.read().contains_key(&id);
        match (&sides.upper, &sides.lower) {
            (Some(_), None) | (None, Some(_)) if kept => self.list_kept(id, sides, position, each),
            (Some(dir), None) if self.upper.filesystem().keeps_positions() => {
                self.list_one(id, LayerId::Upper, dir, position, each)
            }
            (None, Some(dir)) if self.lower.filesystem().keeps_positions() => {
                self.list_one(id, LayerId::Lower, dir, position, each)
            }
            (None, None) => Err(Errno::STALE),
            (_, _) => self.list_kept(id, sides, position, each),
        }
    }

    /// Like [`MergedFs::list`], with the node of each entry, which gains a reference of the
    /// kernel. An entry that is refused (`Full`) loses it again.
    pub fn list_plus(
        &self,
        id: NodeId,
        position: u64,
        mut each: impl FnMut(ListItem<'_>, Option<&Entry>) -> Listed,
    ) -> Outcome<()> {
        self.in_parts(id, |added| {
            let mut counted = |item: ListItem<'_>, entry: Option<&Entry>| {
                let listed = each(item, entry);
                *added += usize::from(listed == Listed::More);
                listed
            };
            self.list_batches(id, &self.live_sides(id)?, position, &mut counted)
        })
    }

    /// Goes on until the reply is full or the directory ends: entries that went away meanwhile
    /// leave no gap that looks like its end.
    fn list_batches(
        &self,
        id: NodeId,
        sides: &Sides,
        mut position: u64,
        each: &mut impl FnMut(ListItem<'_>, Option<&Entry>) -> Listed,
    ) -> Outcome<()> {
        loop {
            let items = self.some_items(id, sides, position)?;
            let Some(last) = items.last() else {
                return Ok(());
            };
            position = last.item.next;
            for item in &items {
                if self.list_with_node(id, sides, item, each)? == Listed::Full {
                    return Ok(());
                }
            }
        }
    }

    /// Copies the next entries, so that no lock and no stream is held while they are looked up.
    fn some_items(&self, id: NodeId, sides: &Sides, position: u64) -> Outcome<Vec<OwnedItem>> {
        let mut items = Vec::new();
        self.list_sides(id, sides, position, &mut |item| {
            items.push(OwnedItem {
                name: item.name.into(),
                item: ListItem { name: b"", ..item },
            });
            Ok(if items.len() < BATCH {
                Listed::More
            } else {
                Listed::Full
            })
        })?;
        Ok(items)
    }

    fn list_with_node(
        &self,
        id: NodeId,
        sides: &Sides,
        owned: &OwnedItem,
        each: &mut impl FnMut(ListItem<'_>, Option<&Entry>) -> Listed,
    ) -> Outcome<Listed> {
        let item = ListItem {
            name: &owned.name,
            ..owned.item
        };
        if item.is_dots() {
            return Ok(each(item, None));
        }
        let Looked::Found(entry) = self.lookup_in(id, sides, item.name)? else {
            return Ok(Listed::More);
        };
        let listed = each(item, Some(&entry));
        if listed == Listed::Full {
            self.forget(entry.node, 1);
        }
        Ok(listed)
    }

    /// Tells the kernel if its listing of a merged directory may be older than the lower side.
    pub(super) fn listing_may_have_changed(&self, id: NodeId, lower: &Stat) {
        let kept = self.listings.read().get(&id).cloned();
        // A side without a stamp changed while it was read.
        let changed = |kept: &KeptListing| kept.read && kept.lower.stamp != Some(stamp(lower));
        if kept.is_some_and(|kept| changed(&kept.lock())) {
            self.notify(Notice::Contents { node: id });
        }
    }

    /// The sides of a directory, unless its upper one was deleted behind the mount.
    fn live_sides(&self, id: NodeId) -> Outcome<Sides> {
        self.surviving(id, || {
            let sides = self.sides(id)?;
            self.check_linked(&sides)?;
            Ok(sides)
        })
    }

    fn list_one(
        &self,
        id: NodeId,
        layer: LayerId,
        dir: &OwnedFd,
        position: u64,
        each: &mut impl FnMut(ListItem<'_>) -> Outcome<Listed>,
    ) -> Outcome<()> {
        let tree = self.tree(layer);
        tree.read_dir(dir.as_fd(), position, |entry| {
            if entry.is_dots() {
                return each(self.dots(id, &entry)?);
            }
            let Some(item) = examine(tree, dir.as_fd(), &entry)? else {
                return Ok(Listed::More);
            };
            let hidden = match layer {
                LayerId::Lower => item.whiteout || self.hides(id, dir.as_fd(), entry.name)?,
                LayerId::Upper => item.whiteout && self.is_links(id, entry.name)?,
            };
            if hidden {
                return Ok(Listed::More);
            }
            let (ino, kind) = item.info;
            each(ListItem {
                name: entry.name,
                ino,
                kind,
                next: entry.next,
            })
        })
    }

    fn dots<'a>(&self, id: NodeId, entry: &DirEntry<'a>) -> Outcome<ListItem<'a>> {
        let of = if entry.name == b"." {
            id
        } else {
            self.table.with(id, |node| node.parent)?
        };
        let ino = self.table.with(of, |node| node.ino())?;
        Ok(ListItem {
            name: entry.name,
            ino,
            kind: Kind::Directory,
            next: entry.next,
        })
    }

    fn list_kept(
        &self,
        id: NodeId,
        sides: &Sides,
        position: u64,
        each: &mut impl FnMut(ListItem<'_>) -> Outcome<Listed>,
    ) -> Outcome<()> {
        let kept = self.kept_listing(id);
        let mut kept = kept.lock();
        if position == 0 || !kept.read {
            self.refresh(id, &mut kept, sides)?;
            kept.read = true;
        }
        for (name, next) in [(b".".as_slice(), 1), (b"..".as_slice(), 2)] {
            let here = DirEntry {
                name,
                ino: Ino(0),
                kind: None,
                next,
            };
            if position < next && each(self.dots(id, &here)?)? == Listed::Full {
                return Ok(());
            }
        }
        for shown in kept.listing.from(position.saturating_sub(DOTS)) {
            let (ino, kind) = shown.info;
            let item = ListItem {
                name: shown.name,
                ino,
                kind,
                next: shown.next + DOTS,
            };
            if each(item)? == Listed::Full {
                break;
            }
        }
        Ok(())
    }

    fn kept_listing(&self, id: NodeId) -> Arc<Mutex<KeptListing>> {
        if let Some(kept) = self.listings.read().get(&id) {
            return Arc::clone(kept);
        }
        Arc::clone(self.listings.write().entry(id).or_default())
    }

    fn refresh(&self, id: NodeId, kept: &mut KeptListing, sides: &Sides) -> Outcome<()> {
        if let Some(mut scan) = kept.upper.scan(&self.upper, sides.upper.as_deref())? {
            let mut failed = Ok(());
            scan.retain(|(name, item)| {
                let links = match item.whiteout {
                    true => self.is_links(id, name),
                    false => Ok(false),
                };
                match links {
                    Ok(hidden) => !hidden && !is_reserved(id, name),
                    Err(why) => {
                        failed = Err(why);
                        true
                    }
                }
            });
            if let Err(why) = failed {
                // What was read is not kept, so it is read again.
                kept.upper.stamp = None;
                return Err(why);
            }
            kept.listing.set_upper(scan);
        }
        let number = self.table.with(id, |node| node.lower)?;
        let hidden = number.map_or(0, |number| self.hidden.version(number));
        if kept.hidden != hidden {
            kept.lower.stamp = None;
        }
        if let Some(mut scan) = kept.lower.scan(&self.lower, sides.lower.as_deref())? {
            if let Some(lower) = &sides.lower {
                let shown = self.show_lower(id, lower.as_fd(), &mut scan);
                // What was read is not kept, so it is read again.
                shown.inspect_err(|_| kept.lower.stamp = None)?;
            }
            kept.hidden = hidden;
            kept.listing.set_lower(scan);
        }
        Ok(())
    }
}

impl Side {
    /// Reads the side's directory, unless it is as it was.
    fn scan(&mut self, tree: &Tree, dir: Option<&OwnedFd>) -> Outcome<Option<Scan>> {
        let Some(dir) = dir else {
            let gone = std::mem::take(self).there;
            return Ok(gone.then(Scan::new));
        };
        let stat = tree.stat(dir.as_fd())?;
        let now = stamp(&stat);
        if self.there && self.stamp == Some(now) {
            return Ok(None);
        }
        let mut scan = Scan::new();
        tree.read_dir(dir.as_fd(), 0, |entry| {
            if !entry.is_dots()
                && let Some(item) = examine(tree, dir.as_fd(), &entry)?
            {
                scan.push((entry.name.into(), item));
            }
            Ok::<_, Errno>(Listed::More)
        })?;
        let quiet = stat.unchanged_for() > Some(tree.filesystem().tick());
        *self = Side {
            there: true,
            stamp: quiet.then_some(now),
        };
        Ok(Some(scan))
    }
}

/// Completes an entry by what only `stat` tells: an untold kind, and whether a device is 0/0.
/// `None` if the name went away meanwhile.
fn examine(tree: &Tree, dir: BorrowedFd<'_>, entry: &DirEntry<'_>) -> Outcome<Option<Item<Info>>> {
    let known = entry.kind.filter(|&kind| kind != Kind::CharDevice);
    if let Some(kind) = known {
        return Ok(Some(Item {
            info: (entry.ino, kind),
            whiteout: false,
        }));
    }
    let stat = tree.probe(dir, entry.name)?;
    Ok(stat.map(|stat| Item {
        info: (stat.ino, stat.kind),
        whiteout: stat.is_zero_device(),
    }))
}

fn stamp(stat: &Stat) -> Stamp {
    (stat.ino, stat.mtime, stat.ctime)
}
