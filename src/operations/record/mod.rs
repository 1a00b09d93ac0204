// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount option `record`: objects that were completed through the view by hand become valid.
//!
//! Decides which names of the upper directory those are, and when. Nobody learns of a close, so an
//! object counts as completed when all of it is canonical and nothing of it has changed for
//! two seconds. Invariants: the recorder changes nothing of an object; it registers no object whose
//! references are not all valid, or become so with it; and no failure of it is one of the mount.
//!
//! It runs in a process of its own, and holds nothing of the view but while it registers, for a
//! moment: the locks of the objects. Before that they are read, and when they are locked it is made
//! sure that they are still what was read.
//!
//! * `watch`: what happens to the names at the top of the upper directory.
//! * `candidates`: which names are to be looked at, and when.
//! * `reading`: what an object is: its archive, its references.
//! * `batch`: which of several objects can be registered together.
//! * `registering`: the same, done, under the locks that Nix takes.

mod batch;
mod candidates;
mod reading;
mod registering;
mod watch;

use crate::backend::Request;
use crate::backend::companion::Course;
use crate::backend::mountid::MountId;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::{Source, open_union};
use crate::nar::Place;
use crate::roots::Interrupt;
use crate::store::{ObjectName, StoreDir};
use batch::Batch;
use candidates::{Candidates, MOST};
use reading::{Known, Seen};
use rustix::fs::{AtFlags, Mode, OFlags, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use watch::Watch;

/// How long the recorder waits after a failure that is no object's; twice as long after the next.
const RECOVERY: Duration = Duration::from_secs(5);

/// How often that time doubles.
const DOUBLINGS: u32 = 5;

/// Refuses to record where that cannot work.
pub fn check(request: &Request) -> Result<()> {
    if !request.options.record {
        return Ok(());
    }
    let refused = |why, hint| Err(Error::usage("option record", why).hint(hint));
    if request.options.attributes.read_only() {
        return refused(
            "nothing is completed through a view that is mounted with ro",
            LEAVE,
        );
    }
    if request.layout.read_only {
        return refused("the store URL says read-only=true", LEAVE);
    }
    if request.layout.state.is_none() {
        return refused(
            "mount options name no state directory, so there is no database",
            "give a store URL, or leave it out",
        );
    }
    Ok(())
}

/// Refuses to record for a private view, which ends with its last user.
pub fn refuse_private(request: &Request) -> Result<()> {
    match request.options.record {
        false => Ok(()),
        true => Err(Error::usage(
            "option record",
            "whoever records in a private view would keep it from ending",
        )
        .hint("use it with `overstore mount`")),
    }
}

const LEAVE: &str = "leave one of them out";

/// The whole life of the process beside the driver that records.
pub fn record(layout: &Layout, course: &mut Course) {
    if let Err(why) = Recorder::open(layout, course).and_then(|recorder| match recorder {
        Some(mut recorder) => recorder.run(course),
        None => Ok(()),
    }) {
        log::error!("nothing is recorded any more: {why}");
    }
}

/// What the recorder has.
#[derive(Debug)]
struct Recorder {
    layout: Layout,
    dir: StoreDir,
    upper: OwnedFd,
    lower: OwnedFd,
    /// Whose objects may be registered: those of who serves the view, and of the upper's owner.
    owners: Vec<u32>,
    view: MountId,
    watch: Watch,
    candidates: Candidates,
    interrupt: Interrupt,
    /// How many batches in a row have failed.
    failures: u32,
    /// What was said last of an object, which is not said again.
    told: BTreeMap<ObjectName, String>,
}

impl Recorder {
    /// Opens both layers, and waits for the mount, which may cover them; `None` if it never comes.
    fn open(layout: &Layout, course: &mut Course) -> Result<Option<Recorder>> {
        let dir = super::store_dir(layout)?;
        let (upper, lower) = (open_dir(&layout.upper)?, open_dir(&layout.lower)?);
        let owner = rustix::fs::fstat(&upper)
            .map_err(|why| Error::on("stat upper directory", &layout.upper, why))?
            .st_uid;
        if !course.mounted()? {
            return Ok(None);
        }
        let view = MountId::of(&layout.merged)
            .map_err(|why| Error::on("find the view at", &layout.merged, why))?;
        let watch = Watch::start(upper.as_fd())
            .map_err(|why| Error::on("watch upper directory", &layout.upper, why))?;
        let mut recorder = Recorder {
            layout: layout.clone(),
            dir,
            owners: vec![rustix::process::geteuid().as_raw(), owner],
            upper,
            lower,
            view,
            watch,
            candidates: Candidates::default(),
            interrupt: Interrupt::when(course.over()),
            failures: 0,
            told: BTreeMap::new(),
        };
        recorder.notice_all()?;
        Ok(Some(recorder))
    }

    /// Records until the driver ends, or the view or the upper directory is gone.
    fn run(&mut self, course: &Course) -> Result<()> {
        log::info!(
            "recording objects completed in {}",
            self.layout.merged.display()
        );
        while !self.interrupt.is_set() {
            let pause = self.candidates.next_due(Instant::now());
            let over = self.watch.wait(course.end(), pause);
            if over.map_err(|why| self.failed("watch", why))? {
                return Ok(());
            }
            if !self.take_events(Instant::now(), |_| false)? {
                log::warn!("the upper directory is gone: nothing is recorded any more");
                return Ok(());
            }
            let due = self.candidates.take_due(Instant::now());
            if due.is_empty() {
                continue;
            }
            match self.judge(due.clone()) {
                Ok(()) => self.failures = 0,
                Err(_) if self.interrupt.is_set() => return Ok(()),
                Err(why) => {
                    self.tell(due.iter().next(), &why);
                    let pause = RECOVERY * 2u32.saturating_pow(self.failures.min(DOUBLINGS));
                    self.failures += 1;
                    self.candidates.recover(due, Instant::now() + pause);
                }
            }
        }
        Ok(())
    }

    /// Takes note of what has happened, but to names that are `passed` over; `false` if the
    /// directory is gone.
    fn take_events(&mut self, now: Instant, passed: impl Fn(&[u8]) -> bool) -> Result<bool> {
        let (mut overflow, mut gone) = (false, false);
        let candidates = &mut self.candidates;
        let drained = self.watch.drain(|event| match event {
            watch::Event::Name(name) if passed(name) => {}
            watch::Event::Name(name) => candidates.notice(name, now),
            watch::Event::Overflow => overflow = true,
            watch::Event::Gone => gone = true,
        });
        drained.map_err(|why| self.failed("watch", why))?;
        if overflow {
            self.notice_all()?;
        }
        Ok(!gone)
    }

    /// Has every name of the upper directory looked at.
    fn notice_all(&mut self) -> Result<()> {
        let now = Instant::now();
        for name in self.names()? {
            self.candidates.notice(name.as_str().as_bytes(), now);
        }
        Ok(())
    }

    /// Looks at names whose time has come, and registers what can be.
    fn judge(&mut self, due: BTreeSet<ObjectName>) -> Result<()> {
        let unregistered = self.unregistered(due)?;
        let mut names = unregistered.into_iter();
        let seen = self.seen(names.by_ref().take(MOST))?;
        // There are more than are read at once.
        self.candidates.recover(names, Instant::now());
        if seen.is_empty() {
            return Ok(());
        }
        self.writable()?;
        let known = self.known()?;
        let scanner = known.scanner();
        let mut read = Vec::new();
        for one in seen {
            self.interrupt.check("record objects")?;
            let name = one.name.clone();
            match self.read(one, &scanner) {
                Ok(object) => read.push(object),
                // It will not get better by itself.
                Err(why) if why.kind() == Kind::Corrupt => {
                    self.tell(Some(&name), &why);
                    self.candidates.forget(&name);
                }
                Err(why) => self.put_off(&name, &why),
            }
        }
        let (batch, waiting) = Batch::closed(read, &known.valid);
        for (name, on) in waiting {
            self.wait_for(&name, on);
        }
        for name in self.register(batch)? {
            log::info!("recorded {}", self.dir.store_path(&name).display());
            self.told.remove(&name);
            self.candidates.done(&name, Instant::now());
        }
        Ok(())
    }

    /// Leaves out what is valid already, and what is in the lower as well. A duplicate of a valid
    /// object would hide what the lower says of it; together with anything else of that name in the
    /// lower, the object that the view shows is not the one in the upper.
    fn unregistered(&mut self, due: BTreeSet<ObjectName>) -> Result<BTreeSet<ObjectName>> {
        let union = open_union(&self.layout)?;
        let mut left = BTreeSet::new();
        for name in due {
            let registered = match union.upper() {
                Some(upper) => upper.is_valid(&name)?,
                None => false,
            };
            if registered {
                self.candidates.done(&name, Instant::now());
            } else if !has(self.upper.as_fd(), &name)? {
                self.told.remove(&name);
                self.candidates.forget(&name);
            } else if has(self.lower.as_fd(), &name)? || union.is_valid(&name)? {
                let why = Error::usage(self.subject(&name), "the lower has an object of this name")
                    .hint("remove the one in the upper, which hides it");
                self.tell(Some(&name), &why);
                self.candidates.forget(&name);
            } else {
                left.insert(name);
            }
        }
        union.finish()?;
        Ok(left)
    }

    /// Looks at objects; returns those that are canonical and quiet.
    fn seen(&mut self, names: impl Iterator<Item = ObjectName>) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for name in names {
            self.interrupt.check("record objects")?;
            match reading::see(&self.place(&name)?, &name, &self.owners) {
                Ok(one) if one.is_complete() => match one.rests_for() {
                    Some(rest) => self.candidates.rest(&name, Instant::now() + rest),
                    None => seen.push(one),
                },
                // Whoever completes it changes the top, which will be noticed.
                Ok(one) if one.top_is_open() => self.candidates.forget(&name),
                Ok(one) => self.put_off(&name, &one.fault(&self.subject(&name))),
                Err(why) => self.put_off(&name, &why),
            }
        }
        Ok(seen)
    }

    /// What an object may refer to.
    fn known(&self) -> Result<Known> {
        let union = open_union(&self.layout)?;
        let valid = union.all_valid()?;
        union.finish()?;
        drop(union);
        let unfinished = self.names()?;
        Ok(Known { valid, unfinished })
    }

    /// The store objects, complete or not, that are at the top of the upper directory.
    fn names(&self) -> Result<BTreeSet<ObjectName>> {
        let listed = watch::list(self.upper.as_fd());
        let listed = listed.map_err(|why| self.failed("list", why))?;
        let parsed = listed
            .iter()
            .filter_map(|name| ObjectName::parse(name).ok());
        Ok(parsed.collect())
    }

    fn place<'a>(&'a self, name: &'a ObjectName) -> Result<Place<'a>> {
        Place::new(
            self.upper.as_fd(),
            name.as_str().as_bytes(),
            &self.layout.upper,
        )
    }

    /// Has the object looked at again later; tells why when it has been long enough.
    fn put_off(&mut self, name: &ObjectName, why: &Error) {
        if self
            .candidates
            .put_off(name, BTreeSet::new(), Instant::now())
        {
            log::debug!("{why}");
        } else {
            self.tell(Some(name), why);
        }
    }

    /// Has the object looked at when `on` are valid, or later.
    fn wait_for(&mut self, name: &ObjectName, on: BTreeSet<ObjectName>) {
        let first = on
            .iter()
            .next()
            .map(ToString::to_string)
            .unwrap_or_default();
        if !self.candidates.put_off(name, on, Instant::now()) {
            let why = format!("it refers to {first}, which is not valid");
            let why = Error::usage(self.subject(name), why)
                .hint("complete that object first, then touch this one's top again");
            self.tell(Some(name), &why);
        }
    }

    fn subject(&self, name: &ObjectName) -> String {
        format!("record {}", self.dir.store_path(name).display())
    }

    /// Says why an object is not recorded, once.
    fn tell(&mut self, name: Option<&ObjectName>, why: &Error) {
        let text = why.to_string();
        let Some(name) = name else {
            return log::warn!("{text}");
        };
        if self.told.get(name) != Some(&text) {
            log::warn!("{text}");
            self.told.insert(name.clone(), text);
        }
    }

    fn failed(&self, verb: &str, why: Errno) -> Error {
        let verb = format!("{verb} upper directory");
        Error::on(&verb, &self.layout.upper, why)
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|why| Error::on("open", path, why))
}

/// Tells whether there is anything of this name.
fn has(dir: impl AsFd, name: &ObjectName) -> Result<bool> {
    match statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(why) => Err(Error::environment(format!("stat {name}"), why)),
    }
}
