// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following the changes that the top directories get behind the mount.
//!
//! A thread reads what happened, lets vanished duplicates go on from their twins, and has the kernel
//! forget one name at a time. Invariant: as long as the view is watched, whatever the kernel may
//! keep for ever about a top-level name is told to it when it is no longer true. Where it is not
//! watched, nothing about such a name is kept longer than `lower-ttl`.

use super::node::NodeId;
use super::staging::is_reserved;
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Change, Errno, Listed, Watch};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Called when everything before it has been told to the kernel.
pub type Done = Box<dyn FnOnce() + Send>;

/// The state of watching.
#[derive(Default)]
pub(super) struct Watching {
    wanted: bool,
    on: AtomicBool,
    why_not: OnceLock<String>,
    wake: OnceLock<OwnedFd>,
    waiting: Mutex<Vec<Done>>,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}

impl Watching {
    pub(super) fn new(wanted: bool) -> Watching {
        Watching {
            wanted,
            ..Watching::default()
        }
    }

    /// Whether changes behind the mount are told.
    pub(super) fn on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn give_up(&self, why: &str) {
        self.on.store(false, Ordering::Release);
        if self.why_not.set(why.to_owned()).is_ok() {
            log::warn!("changes behind the mount show after lower-ttl only: {why}");
        }
    }
}

impl MergedFs {
    /// Starts watching where that is possible; `expires` says whether the kernel can forget a name
    /// without detaching the mounts inside it.
    pub fn start_watching(self: &Arc<Self>, expires: bool) {
        if !self.watching.wanted {
            return self.watching.give_up("the option watch=off says so");
        }
        match self.try_watching(expires) {
            Ok(()) => log::info!("watching both layers"),
            Err(Errno::OPNOTSUPP) => {
                self.watching
                    .give_up("a layer's filesystem does not tell of its changes");
            }
            Err(Errno::NOSYS) => self.watching.give_up("the kernel is older than Linux 6.2"),
            Err(errno) => self.watching.give_up(&format!("inotify: {errno}")),
        }
    }

    /// Returns why changes behind the mount show after `lower-ttl` only; `None` if they show at
    /// once.
    pub fn unwatched(&self) -> Option<&str> {
        self.watching.why_not.get().map(String::as_str)
    }

    fn try_watching(self: &Arc<Self>, expires: bool) -> Outcome<()> {
        if !expires {
            return Err(Errno::NOSYS);
        }
        let watch = Watch::start(&self.upper, &self.lower)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.watching.wake.get_or_init(|| wake);
        self.watching.on.store(true, Ordering::Release);
        let fs = Arc::clone(self);
        let follow = move || fs.follow(&watch);
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(follow)
            .map(drop)
            .map_err(|error| io_errno(&error))
    }

    /// Calls `done` when every change made before this call is visible to everybody.
    pub fn barrier(&self, done: Done) {
        self.watching.waiting.lock().push(done);
        let woken = self
            .watching
            .wake
            .get()
            .map(|wake| rustix::io::write(wake, &1u64.to_ne_bytes()));
        if !matches!(woken, Some(Ok(_))) || !self.watching.on() {
            self.without_watch();
        }
    }

    /// The barrier of a view that is not watched: everything about its top is forgotten.
    fn without_watch(&self) {
        let waiting = std::mem::take(&mut *self.watching.waiting.lock());
        self.expire_everything();
        for done in waiting {
            self.after_notices(done);
        }
    }

    fn follow(&self, watch: &Watch) {
        let Some(wake) = self.watching.wake.get() else {
            return;
        };
        while self.watching.on() {
            if let Err(errno) = watch
                .wait(wake.as_fd())
                .and_then(|()| self.follow_once(watch, wake))
            {
                self.watching.give_up(&format!("inotify: {errno}"));
            }
        }
        self.without_watch();
    }

    fn follow_once(&self, watch: &Watch, wake: &OwnedFd) -> Outcome<()> {
        // The barriers first: what happened before them is in the queue by now.
        let waiting = std::mem::take(&mut *self.watching.waiting.lock());
        let _none_is_fine = rustix::io::read(wake, &mut [0u8; 8][..]);
        let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut everything = false;
        watch.drain(|change| match change {
            // The kernel knows of no reserved name.
            Change::Name(_, name) if is_reserved(NodeId::ROOT, name) => {}
            Change::Name(_, name) => drop(names.insert(name.into())),
            Change::Overflow => everything = true,
            Change::Lost(layer) => {
                everything = true;
                self.watching
                    .give_up(&format!("the {layer:?} directory was moved or removed"));
            }
        })?;
        for name in &names {
            self.changed(name);
        }
        if everything {
            log::warn!("too many changes at once: everything is looked at again");
            self.expire_everything();
        } else if !names.is_empty() {
            self.notify(Notice::Contents { node: NodeId::ROOT });
        }
        for done in waiting {
            self.after_notices(done);
        }
        Ok(())
    }

    /// Follows a change of one top-level name.
    fn changed(&self, name: &[u8]) {
        if let Err(errno) = self.follow_twin(name) {
            log::debug!("{}: {errno}", name.escape_ascii());
        }
        self.notify(Notice::Name { name: name.into() });
    }

    /// Lets the node of a duplicate that has vanished from the upper go on from the lower.
    fn follow_twin(&self, name: &[u8]) -> Outcome<()> {
        let Some(id) = self.tops.known_upper(name) else {
            return Ok(());
        };
        if self.upper.probe(self.upper.root(), name)?.is_none()
            && let Some(twin) = self.probe_lower(NodeId::ROOT, &self.sides(NodeId::ROOT)?, name)?
        {
            return self.adopt_top(name, &twin);
        }
        self.notify(Notice::Attributes { node: id });
        Ok(())
    }

    /// Has the kernel forget every name in the top directory that it was told of.
    fn expire_everything(&self) {
        let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
        self.table.for_each(|_, node| {
            if node.parent == NodeId::ROOT {
                names.insert(node.name.clone());
            }
        });
        // Names that were missing and are there now.
        for tree in [&*self.upper, &*self.lower] {
            let listed = tree.read_dir(tree.root(), 0, |entry| {
                if self.tops.was_absent(entry.name) {
                    names.insert(entry.name.into());
                }
                Ok::<_, Errno>(Listed::More)
            });
            if let Err(errno) = listed {
                log::warn!("list a layer: {errno}");
            }
        }
        for name in &names {
            self.changed(name);
        }
        self.notify(Notice::Contents { node: NodeId::ROOT });
    }
}

fn io_errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
