// SPDX-License-Identifier: MIT OR Apache-2.0
//! What repair has taken out of sight: lower names that were removed, set aside under another
//! name, or made writable for their removal.
//!
//! Invariant: memory alone, never the disk, knows of it; whoever switches repair off, or ends the
//! driver, has everything back. Nothing is hidden while repair is off.

use super::Outcome;
use crate::layer::{Errno, Ino};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

type Name = Box<[u8]>;

/// A lower directory: its number, and the birth that tells it from a later one of that number.
pub(super) type LowerDir = (Ino, u32);

/// Whether repair is on, and what it hides.
#[derive(Debug)]
pub(super) struct Hidden {
    on: AtomicBool,
    /// Whether there is anything in `state`: a view that repairs nothing asks no more than this.
    any: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    dirs: HashMap<Ino, Names>,
    /// New top-level names of lower objects that were set aside, with the real ones.
    aliases: BTreeMap<Name, Name>,
    /// Permission bits that lower directories show instead of their own.
    modes: HashMap<LowerDir, u16>,
    /// When the names of a directory last changed, by `clock`; all others: at `floor`.
    versions: HashMap<Ino, u64>,
    floor: u64,
    clock: u64,
}

/// The hidden names of one lower directory, each with its path from the top.
#[derive(Debug)]
struct Names {
    birth: u32,
    paths: HashMap<Name, Name>,
}

/// One name that was taken out of sight, and how to bring it back.
#[derive(Debug)]
pub(super) enum Hiding {
    Name { dir: Ino, name: Name },
    Alias { top: Ino, name: Name, real: Name },
}

/// Everything that shows again once repair is off.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) dirs: Vec<Ino>,
    pub(super) names: Vec<(Ino, Name)>,
    pub(super) aliases: BTreeMap<Name, Name>,
    pub(super) modes: Vec<Ino>,
}

/// What repair is doing, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// Whether lower names may be removed.
    pub on: bool,
    /// The paths of the hidden names from the top directory, sorted.
    pub hidden: Vec<Vec<u8>>,
}

impl Hidden {
    pub(super) fn new(on: bool) -> Hidden {
        Hidden {
            on: AtomicBool::new(on),
            any: AtomicBool::new(false),
            state: RwLock::default(),
        }
    }

    /// Whether lower names may be removed.
    pub(super) fn on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Whether anything is hidden, set aside or changed.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Returns the birth of the directory numbered `dir` in which `name` is hidden.
    pub(super) fn hides(&self, dir: Ino, name: &[u8]) -> Option<u32> {
        let state = self.state.read();
        let names = state.dirs.get(&dir)?;
        names.paths.contains_key(name).then_some(names.birth)
    }

    /// Whether any name of a directory is hidden.
    pub(super) fn hides_in(&self, dir: LowerDir) -> bool {
        let state = self.state.read();
        state.dirs.get(&dir.0).is_some_and(|n| n.birth == dir.1)
    }

    /// Returns the real name of the lower object that was set aside as `name`.
    pub(super) fn real_name(&self, name: &[u8]) -> Option<Name> {
        self.state.read().aliases.get(name).cloned()
    }

    /// Returns every name that stands for another one, with the real one.
    pub(super) fn aliases(&self) -> Vec<(Name, Name)> {
        let state = self.state.read();
        let pairs = state.aliases.iter();
        pairs.map(|(a, r)| (a.clone(), r.clone())).collect()
    }

    /// Returns the permission bits that a lower directory shows instead of its own.
    pub(super) fn mode_of(&self, dir: LowerDir) -> Option<u16> {
        self.state.read().modes.get(&dir).copied()
    }

    /// Returns a number that grows whenever names of `dir` are hidden or come back.
    pub(super) fn version(&self, dir: Ino) -> u64 {
        let state = self.state.read();
        state.versions.get(&dir).copied().unwrap_or(state.floor)
    }

    /// Changes the state, which is possible only while repair is on (EROFS).
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Outcome<T> {
        let mut state = self.state.write();
        if !self.on() {
            return Err(Errno::ROFS);
        }
        let result = change(&mut state);
        self.any.store(state.is_any(), Ordering::Release);
        Ok(result)
    }

    /// Hides `name` of `dir`, of which `path` is the whole path. In the `top` directory a name
    /// that stands for another one is dropped instead: the other one is hidden already.
    pub(super) fn hide(&self, top: Ino, dir: LowerDir, name: &[u8], path: Name) -> Outcome<Hiding> {
        self.change(|state| {
            state.touch(dir.0);
            let alias = (dir.0 == top).then(|| state.aliases.remove(name));
            if let Some(real) = alias.flatten() {
                let name = name.into();
                return Hiding::Alias { top, name, real };
            }
            state.hide(dir, name, path);
            Hiding::Name {
                dir: dir.0,
                name: name.into(),
            }
        })
    }

    /// Brings a name back after all.
    pub(super) fn undo(&self, hiding: Hiding) {
        // Where repair was switched off meanwhile, everything is back already.
        let _undone = self.change(|state| match hiding {
            Hiding::Name { dir, name } => state.show(dir, &name),
            Hiding::Alias { top, name, real } => {
                state.touch(top);
                state.aliases.insert(name, real);
            }
        });
    }

    /// Forgets that `name` of `dir` is hidden: something else stands there for good.
    pub(super) fn replaced(&self, dir: Ino, name: &[u8]) {
        if self.any() {
            let _off_meanwhile = self.change(|state| state.show(dir, name));
        }
    }

    /// Lets the lower object of the top-level name `from` go by the name `to`. The opposite call
    /// undoes it.
    pub(super) fn set_aside(&self, top: LowerDir, from: &[u8], to: &[u8]) -> Outcome<()> {
        self.change(|state| {
            state.touch(top.0);
            let real = state.aliases.remove(from).unwrap_or_else(|| {
                state.hide(top, from, from.into());
                from.into()
            });
            if *real == *to {
                state.show(top.0, to);
            } else {
                state.aliases.insert(to.into(), real);
            }
        })
    }

    /// Forgets what was hidden in a directory that is hidden itself now.
    pub(super) fn emptied(&self, dir: LowerDir) {
        let _off_meanwhile = self.change(|state| {
            state.modes.remove(&dir);
            if state.dirs.get(&dir.0).is_some_and(|n| n.birth == dir.1) {
                state.dirs.remove(&dir.0);
                state.touch(dir.0);
            }
        });
    }

    /// Has a lower directory show other permission bits.
    pub(super) fn set_mode(&self, dir: LowerDir, mode: u16) -> Outcome<()> {
        self.change(|state| {
            state.modes.insert(dir, mode);
        })
    }

    /// Switches repair on or off; off, it returns what is no longer hidden.
    pub(super) fn switch(&self, on: bool) -> Ended {
        let mut state = self.state.write();
        self.on.store(on, Ordering::Release);
        if on {
            return Ended::default();
        }
        let clock = state.clock + 1;
        let fresh = State {
            floor: clock,
            clock,
            ..State::default()
        };
        let old = std::mem::replace(&mut *state, fresh);
        self.any.store(false, Ordering::Release);
        let names = old.dirs.iter();
        Ended {
            names: names
                .flat_map(|(&dir, names)| names.paths.keys().map(move |name| (dir, name.clone())))
                .collect(),
            dirs: old.versions.into_keys().collect(),
            aliases: old.aliases,
            modes: old.modes.into_keys().map(|dir| dir.0).collect(),
        }
    }

    /// Says what repair is doing.
    pub(super) fn status(&self) -> RepairStatus {
        let state = self.state.read();
        let paths = state.dirs.values().flat_map(|names| names.paths.values());
        let mut hidden: Vec<_> = paths.map(|path| path.to_vec()).collect();
        hidden.sort();
        RepairStatus {
            on: self.on(),
            hidden,
        }
    }
}

impl State {
    fn is_any(&self) -> bool {
        !(self.dirs.is_empty() && self.aliases.is_empty() && self.modes.is_empty())
    }

    fn touch(&mut self, dir: Ino) {
        self.clock += 1;
        self.versions.insert(dir, self.clock);
    }

    fn hide(&mut self, dir: LowerDir, name: &[u8], path: Name) {
        let names = self.dirs.entry(dir.0).or_insert_with(|| Names {
            birth: dir.1,
            paths: HashMap::new(),
        });
        if names.birth != dir.1 {
            // The directory of that number is another one now.
            names.birth = dir.1;
            names.paths.clear();
        }
        names.paths.insert(name.into(), path);
    }

    fn show(&mut self, dir: Ino, name: &[u8]) {
        let Some(names) = self.dirs.get_mut(&dir) else {
            return;
        };
        if names.paths.remove(name).is_some() {
            if names.paths.is_empty() {
                self.dirs.remove(&dir);
            }
            self.touch(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: LowerDir = (Ino(2), 7);
    const DIR: LowerDir = (Ino(10), 8);

    fn hidden() -> Hidden {
        Hidden::new(true)
    }

    fn hide(hidden: &Hidden, dir: LowerDir, name: &[u8]) -> Hiding {
        hidden.hide(TOP.0, dir, name, name.into()).unwrap()
    }

    #[test]
    fn nothing_is_hidden_while_it_is_off() {
        let hidden = Hidden::new(false);
        let refused = hidden.hide(TOP.0, DIR, b"a", b"d/a"[..].into());
        assert_eq!(refused.err(), Some(Errno::ROFS));
        assert_eq!(hidden.set_aside(TOP, b"a", b"b"), Err(Errno::ROFS));
        assert_eq!(hidden.set_mode(DIR, 0o700), Err(Errno::ROFS));
        assert!(!hidden.any());
    }

    #[test]
    fn a_name_is_hidden_in_its_own_directory() {
        let hidden = hidden();
        let hiding = hide(&hidden, DIR, b"a");
        assert_eq!(hidden.hides(DIR.0, b"a"), Some(DIR.1));
        assert_eq!(hidden.hides(TOP.0, b"a"), None);
        assert_eq!(hidden.hides(DIR.0, b"b"), None);
        hidden.undo(hiding);
        assert!(!hidden.any());
        let _again = hide(&hidden, DIR, b"a");
        hidden.replaced(DIR.0, b"a");
        assert!(!hidden.any());
    }

    #[test]
    fn another_directory_of_the_number_hides_nothing() {
        let hidden = hidden();
        let _first = hide(&hidden, DIR, b"a");
        let later = (DIR.0, DIR.1 + 1);
        let _second = hide(&hidden, later, b"b");
        assert_eq!(hidden.hides(DIR.0, b"a"), None);
        assert_eq!(hidden.hides(DIR.0, b"b"), Some(later.1));
        hidden.emptied(DIR);
        assert!(hidden.hides_in(later) && !hidden.hides_in(DIR));
    }

    #[test]
    fn an_object_set_aside_is_found_and_comes_back() {
        let hidden = hidden();
        hidden.set_aside(TOP, b"a", b"a.old").unwrap();
        assert_eq!(hidden.hides(TOP.0, b"a"), Some(TOP.1));
        assert_eq!(hidden.real_name(b"a.old").as_deref(), Some(&b"a"[..]));
        hidden.set_aside(TOP, b"a.old", b"b").unwrap();
        assert_eq!(hidden.real_name(b"a.old"), None);
        assert_eq!(hidden.real_name(b"b").as_deref(), Some(&b"a"[..]));
        hidden.set_aside(TOP, b"b", b"a").unwrap();
        assert!(!hidden.any(), "{hidden:?}");
    }

    #[test]
    fn an_object_set_aside_goes_with_its_new_name() {
        let hidden = hidden();
        hidden.set_aside(TOP, b"a", b"b").unwrap();
        let hiding = hide(&hidden, TOP, b"b");
        assert_eq!(hidden.real_name(b"b"), None);
        assert_eq!(
            hidden.hides(TOP.0, b"b"),
            None,
            "the lower has no such name"
        );
        hidden.undo(hiding);
        assert_eq!(hidden.real_name(b"b").as_deref(), Some(&b"a"[..]));
        let _again = hide(&hidden, TOP, b"b");
        assert_eq!(hidden.hides(TOP.0, b"a"), Some(TOP.1));
    }

    #[test]
    fn a_listing_is_read_again_after_every_change() {
        let hidden = hidden();
        let mut last = (hidden.version(TOP.0), hidden.version(DIR.0));
        let mut grew = |what: &str, top: bool, dir: bool| {
            let now = (hidden.version(TOP.0), hidden.version(DIR.0));
            assert_eq!((now.0 > last.0, now.1 > last.1), (top, dir), "{what}");
            last = now;
        };
        let hiding = hide(&hidden, DIR, b"a");
        grew("hide", false, true);
        hidden.undo(hiding);
        grew("undo", false, true);
        hidden.set_aside(TOP, b"a", b"b").unwrap();
        grew("set aside", true, false);
        let _hiding = hide(&hidden, TOP, b"b");
        grew("drop", true, false);
        hidden.replaced(TOP.0, b"a");
        grew("replace", true, false);
        hidden.switch(false);
        grew("off", true, true);
        hidden.switch(true);
        grew("on", false, false);
    }

    #[test]
    fn off_tells_everything_that_shows_again() {
        let hidden = hidden();
        let _hiding = hide(&hidden, DIR, b"a");
        hidden.set_aside(TOP, b"x", b"y").unwrap();
        hidden.set_mode(DIR, 0o700).unwrap();
        let status = hidden.status();
        assert_eq!(status.hidden, [b"a".to_vec(), b"x".to_vec()]);
        let mut ended = hidden.switch(false);
        ended.names.sort();
        ended.dirs.sort();
        let names = [(TOP.0, b"x"[..].into()), (DIR.0, b"a"[..].into())];
        assert_eq!(ended.names, names);
        assert_eq!(ended.dirs, [TOP.0, DIR.0]);
        assert_eq!(ended.modes, [DIR.0]);
        assert_eq!(ended.aliases.len(), 1);
        assert_eq!(hidden.status(), RepairStatus::default());
        assert!(!hidden.any() && hidden.mode_of(DIR).is_none());
    }
}
