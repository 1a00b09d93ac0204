// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following the changes that the top directories get behind the mount.
//!
//! A thread reads what happened, lets vanished duplicates go on from their twins, and has the kernel
//! forget one name at a time. Invariant: as long as the view is watched, whatever the kernel may
//! keep for ever about a top-level name is told to it when it is no longer true. Where it is not
//! watched, nothing about such a name is kept longer than `lower-ttl`.

use super::node::{Node, NodeId};
use super::staging::is_reserved;
use super::{MergedFs, Notice, Outcome, hot};
use crate::layer::{Change, Errno, LayerId, Listed, Watch};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Called when everything before it has been told to the kernel.
pub type Done = Box<dyn FnOnce() + Send>;

/// Called with the outcome of a barrier.
pub type Answer = Box<dyn FnOnce(Outcome<()>) + Send>;

/// How long after looking at everything has failed it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A name of which an old answer may be on its way to the kernel, and since when.
type Late = (Box<[u8]>, Instant);

/// Whether a change of the upper may be one that came through the mount.
#[derive(PartialEq, Eq)]
enum Own {
    /// The upper has another object than the kernel knows.
    No,
    /// It has the one that the kernel knows.
    Made,
    /// There is none, and the kernel knows of none.
    Absent,
}

/// The state of watching.
#[derive(Default)]
pub(super) struct Watching {
    wanted: bool,
    on: AtomicBool,
    why_not: OnceLock<String>,
    wake: OnceLock<OwnedFd>,
    waiting: Mutex<Vec<Answer>>,
    /// Whether everything is to be looked at: events were lost.
    everything: AtomicBool,
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
        let tried = self.watching.wanted.then(|| self.try_watching(expires));
        let why = match tried {
            Some(Ok(())) => return log::info!("watching both layers"),
            None => "the option watch=off says so".to_owned(),
            Some(Err(Errno::OPNOTSUPP)) => {
                "a layer's filesystem does not tell of its changes".to_owned()
            }
            Some(Err(Errno::NOSYS)) => "the kernel is older than Linux 6.2".to_owned(),
            Some(Err(errno)) => format!("inotify: {errno}"),
        };
        self.watching.give_up(&why);
        let fs = Arc::clone(self);
        if let Err(errno) = start_thread("listing", move || fs.look_after_listing()) {
            log::error!("a listing of the top may show old names: no thread: {errno}");
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
        start_thread("watch", move || fs.follow(&watch))
    }

    /// Watching ends with the directory that was watched.
    pub(super) fn lower_was_renewed(&self) {
        if self.watching.on() {
            self.watching.give_up("the lower was mounted again");
            self.barrier(Box::new(|_| {}));
        }
    }

    /// Calls `done` when every change made before this call is visible to everybody.
    pub fn barrier(&self, answer: Answer) {
        self.watching.waiting.lock().push(answer);
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
        let alive = self.tops_are_alive();
        let looked = self.expire_everything();
        self.answer_barriers(waiting, alive.and(looked));
    }

    /// Nothing tells that a directory was removed which somebody has open.
    fn tops_are_alive(&self) -> Outcome<()> {
        self.renew_lower()?;
        match self.upper.stat(self.upper.root().as_fd())?.nlink {
            0 => Err(Errno::STALE),
            _ => Ok(()),
        }
    }

    fn answer_barriers(&self, waiting: Vec<Answer>, outcome: Outcome<()>) {
        for answer in waiting {
            self.after_notices(Box::new(move || answer(outcome)));
        }
    }

    fn follow(&self, watch: &Watch) {
        let Some(wake) = self.watching.wake.get() else {
            return;
        };
        while self.watching.on() {
            let again = self.watching.everything.load(Ordering::Relaxed);
            if let Err(errno) = watch
                .wait(wake.as_fd(), again.then_some(RETRY))
                .and_then(|()| self.follow_once(watch, wake))
            {
                self.watching.give_up(&format!("inotify: {errno}"));
            }
        }
        // A listing may have been handed out just before watching ended.
        self.glances.listed();
        self.without_watch();
        self.look_after_listing();
    }

    fn follow_once(&self, watch: &Watch, wake: &OwnedFd) -> Outcome<()> {
        // First the sign, then the barriers: one that comes in between gives another sign. And these
        // before the queue: what happened before them is in it by now.
        let _none_is_fine = rustix::io::read(wake, &mut [0u8; 8][..]);
        let waiting = std::mem::take(&mut *self.watching.waiting.lock());
        let mut names: Vec<(Box<[u8]>, LayerId)> = Vec::new();
        let mut everything = self.watching.everything.swap(false, Ordering::Relaxed);
        let drained = watch.drain(|change| match change {
            // The kernel knows of no reserved name.
            Change::Name(_, name) if is_reserved(NodeId::ROOT, name) => {}
            Change::Name(layer, name) => names.push((name.into(), layer)),
            Change::Lost(layer) => {
                everything = true;
                self.watching
                    .give_up(&format!("the {layer} directory was moved or removed"));
            }
            Change::Overflow => {
                log::warn!("too many changes at once: everything is looked at again");
                everything = true;
            }
        });
        if let Err(errno) = drained {
            // Whoever takes over answers them.
            self.watching.waiting.lock().extend(waiting);
            return Err(errno);
        }
        let mut looked = Ok(());
        if everything {
            looked = self.expire_everything();
            self.watching
                .everything
                .store(looked.is_err(), Ordering::Relaxed);
        } else if !names.is_empty() {
            self.follow_names(names);
        }
        if !waiting.is_empty() {
            looked = self.tops_are_alive().and(looked);
        }
        self.answer_barriers(waiting, looked);
        Ok(())
    }

    fn follow_names(&self, mut names: Vec<(Box<[u8]>, LayerId)>) {
        // Who is changing names through the mount has finished then, and the nodes know.
        self.wait_for_moves();
        names.sort_unstable();
        names.dedup();
        let mut others = false;
        let late = names.iter().filter_map(|(name, layer)| {
            let own = match layer {
                LayerId::Lower => Own::No,
                LayerId::Upper => self.is_own(name),
            };
            others |= match own {
                Own::No => *layer == LayerId::Upper,
                Own::Made => false,
                Own::Absent => !self.hot.left_by_us(name),
            };
            self.changed(name, own != Own::No)
        });
        let late = late.collect();
        if others {
            self.recount_links();
        }
        self.expire_late(late);
        self.notify(Notice::Contents { node: NodeId::ROOT });
    }

    /// Whether the upper has under a name what the kernel knows there: it made the change itself.
    fn is_own(&self, name: &[u8]) -> Own {
        let Ok(found) = self.upper.probe(self.upper.root().as_fd(), name) else {
            return Own::No;
        };
        let known = self.tops.known(name).and_then(|id| {
            let object = |node: &Node| {
                let here = node.is_at(NodeId::ROOT, name) && node.held.is_none();
                here.then_some((node.upper, node.birth))
            };
            self.table.with(id, object).ok().flatten()
        });
        match found.map(|stat| (Some(stat.ino), stat.birth)) {
            object if object != known => Own::No,
            Some(_) => Own::Made,
            None => Own::Absent,
        }
    }

    /// Follows a change of one top-level name, or with `only_look` what may be one; returns the name
    /// if an answer from before may still be on its way to the kernel, and since when.
    fn changed(&self, name: &[u8], only_look: bool) -> Option<Late> {
        let answered = self.hot.changed(name, only_look);
        if let Err(errno) = self.follow_twin(name) {
            log::debug!("{}: {errno}", name.escape_ascii());
        }
        self.expire(name.into());
        answered.map(|since| (name.into(), since))
    }

    fn expire(&self, name: Box<[u8]>) {
        let parent = NodeId::ROOT;
        self.notify(Notice::Name { parent, name });
    }

    /// Has the kernel ask again how many names the upper's objects have, if they have several: one of
    /// them may have gone with what was changed, wherever the others are.
    fn recount_links(&self) {
        let mut linked = Vec::new();
        self.table.for_each(|id, node| {
            if node.linked && node.upper.is_some() {
                linked.push(id);
            }
        });
        for node in linked {
            self.notify(Notice::Attributes { node });
        }
    }

    /// Expires once more, when they have arrived, the names of which old answers were on their way.
    #[expect(clippy::disallowed_methods, reason = "nothing tells of an arrival")]
    fn expire_late(&self, late: Vec<Late>) {
        let Some(last) = late.iter().map(|(_, since)| *since).max() else {
            return;
        };
        thread::sleep(hot::ON_ITS_WAY.saturating_sub(last.elapsed()));
        for (name, _) in late {
            self.expire(name);
        }
    }

    /// Lets the node of a duplicate that has vanished from the upper go on from the lower.
    fn follow_twin(&self, name: &[u8]) -> Outcome<()> {
        let Some(id) = self.tops.known(name) else {
            return Ok(());
        };
        if self.upper.probe(self.upper.root().as_fd(), name)?.is_none()
            && let Some(twin) = self.probe_lower(NodeId::ROOT, &self.sides(NodeId::ROOT)?, name)?
        {
            return self.adopt_top(name, &twin);
        }
        self.follow_lower_side(id)?;
        self.notify(Notice::Attributes { node: id });
        Ok(())
    }

    /// Has the kernel forget every name in the top directory that it was told of.
    ///
    /// # Errors
    /// A layer cannot be listed: names that were missing and are there now may not be known.
    fn expire_everything(&self) -> Outcome<()> {
        let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
        self.table.for_each(|_, node| {
            let places = node.places().filter(|place| place.0 == NodeId::ROOT);
            names.extend(places.map(|(_, name)| name.into()));
        });
        // Names that were missing and are there now.
        let mut all = Ok(());
        for tree in [&*self.upper, &*self.lower] {
            let listed = tree.read_dir(tree.root().as_fd(), 0, |entry| {
                if self.tops.was_absent(entry.name) {
                    names.insert(entry.name.into());
                }
                Ok::<_, Errno>(Listed::More)
            });
            if let Err(errno) = listed {
                log::warn!("list a layer: {errno}");
                all = Err(errno);
            }
        }
        let late = names.iter().filter_map(|name| self.changed(name, true));
        let late = late.collect();
        self.recount_links();
        self.expire_late(late);
        self.notify(Notice::Contents { node: NodeId::ROOT });
        all
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
