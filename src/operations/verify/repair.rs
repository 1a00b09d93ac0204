// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting good objects in the place of bad ones.
//!
//! Decides which way: where the lower has a good copy, what hides it in the upper goes; otherwise a
//! good copy from another store takes the bad one's place, also before a bad object of the lower.
//! Invariant: nothing is removed before what shall be seen instead was read whole and has the right
//! hash; and the lower is never written.

use super::Dirs;
use super::contents::{Objects, Run, Seen, Shown};
use super::origin::Origin;
use super::shadow::is_whiteout;
use crate::backend::mountinfo::Backend;
use crate::backend::status::RepairHold;
use crate::error::{Error, Kind, Result};
use crate::metadata::Recorded;
use crate::nar::{Input, NarHasher, Place, Tee, remove_tree, restore};
use crate::operations::Store;
use crate::operations::gc::removal::Sides;
use crate::roots::PathLocks;
use crate::store::ObjectName;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, Read};

/// Who mends objects of one store.
#[derive(Debug)]
pub(super) struct Repairer<'a> {
    store: &'a Store,
    shown: Shown<'a>,
    view: Objects<'a>,
    upper: Objects<'a>,
    lower: Option<Objects<'a>>,
    origins: &'a [Origin],
    run: Run<'a>,
    backend: Option<Backend>,
    held: RefCell<Option<RepairHold>>,
    staged: Cell<u32>,
}

impl<'a> Repairer<'a> {
    pub(super) fn new(
        store: &'a Store,
        dirs: &'a Dirs,
        origins: &'a [Origin],
        run: Run<'a>,
    ) -> Repairer<'a> {
        Repairer {
            store,
            shown: dirs.shown(),
            view: dirs.view(),
            upper: dirs.upper(),
            lower: dirs.lower(),
            origins,
            run,
            backend: dirs.backend,
            held: RefCell::new(None),
            staged: Cell::new(0),
        }
    }

    /// Returns where bad links are removed: a view of the driver has no lower ones; on another one a
    /// removal would leave a whiteout.
    pub(super) fn links(&self) -> &Objects<'a> {
        match self.backend {
            Some(Backend::Fuse) => &self.view,
            _ => &self.upper,
        }
    }

    /// Has the object that `wanted` describes be shown; says how that was done.
    pub(super) fn mend(&self, wanted: &Recorded) -> Result<String> {
        let name = &wanted.name;
        self.store.keep(name)?;
        let all = BTreeSet::from([name.clone()]);
        let _locks = PathLocks::take(self.view.path, &all, self.store.interrupt())?;
        if self.judge(wanted, self.shown.look(wanted.name.as_str(), &self.run))? {
            return Ok("somebody else mended it".to_owned());
        }
        let mut tried = Vec::new();
        if let Some(lower) = &self.lower {
            match self.is_good(lower, wanted) {
                Ok(true) => return self.uncover(wanted),
                Ok(false) => tried.push("the lower has no good copy".to_owned()),
                Err(why) => tried.push(format!("the lower's copy cannot be read: {why}")),
            }
        }
        for origin in self.origins {
            self.run.interrupt.check("repair")?;
            match self.stage(wanted, origin) {
                Ok(Some(staged)) => {
                    self.put(wanted, &staged)?;
                    return Ok(format!("replaced by that of {}", origin.label()));
                }
                Ok(None) => tried.push(format!("{} does not have it", origin.label())),
                Err(why) if self.run.interrupt.is_set() => return Err(why),
                Err(why) => tried.push(format!("{}: {why}", origin.label())),
            }
        }
        let hint = match self.origins.is_empty() {
            true => "name a store that has it: --from URL",
            false => "name another store that has it: --from URL",
        };
        Err(Error::new(Kind::Negative, format!("repair {name}"), tried.join(", ")).hint(hint))
    }

    /// Removes what hides the lower's object, which is valid, and has no row.
    pub(super) fn clear(&self, name: &ObjectName) -> Result<String> {
        self.store.keep(name)?;
        let all = BTreeSet::from([name.clone()]);
        let _locks = PathLocks::take(self.view.path, &all, self.store.interrupt())?;
        use crate::metadata::Source;
        let metadata = self.store.metadata();
        let registered = metadata
            .upper()
            .map(|upper| upper.is_valid(name))
            .transpose()?;
        if registered == Some(true) {
            return Ok("somebody registered it".to_owned());
        }
        let info = metadata.lower().map(|lower| lower.path_info(name));
        let Some(info) = info.transpose()?.flatten() else {
            let why = "the lower does not have it any more";
            return Err(Error::new(Kind::Negative, format!("repair {name}"), why));
        };
        let wanted = Recorded {
            name: info.name,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
        };
        match &self.lower {
            Some(lower) if self.is_good(lower, &wanted)? => self.uncover(&wanted),
            _ => {
                let why = "the lower's object is not good itself, and would be shown";
                Err(Error::new(Kind::Negative, format!("repair {name}"), why)
                    .hint("see overstore verify --lower --check-contents"))
            }
        }
    }

    /// Whether the object in `objects` is what it should be; what cannot be read is an error.
    fn is_good(&self, objects: &Objects<'_>, wanted: &Recorded) -> Result<bool> {
        self.judge(wanted, objects.look(wanted.name.as_str(), &self.run))
    }

    fn judge(&self, wanted: &Recorded, seen: Seen) -> Result<bool> {
        match seen {
            Seen::Hashed(hash, _) => Ok(hash == wanted.nar_hash),
            Seen::Gone | Seen::Unfit(_) => Ok(false),
            Seen::Unread(why) => Err(why),
            Seen::Interrupted => Err(self
                .run
                .interrupt
                .check("repair")
                .err()
                .unwrap_or_else(|| Error::environment("repair", "interrupted"))),
        }
    }

    /// Removes the upper's side of an object whose lower side is good.
    fn uncover(&self, wanted: &Recorded) -> Result<String> {
        let name = wanted.name.as_str();
        if !self.upper.has(name)? {
            return Err(Error::on(
                "repair",
                self.view.path.join(name),
                "the lower's object is good, and the view does not show it",
            )
            .hint(format!(
                "end a repair that was not finished: overstore repair off {0}; or mount it again",
                self.view.path.display()
            )));
        }
        let what = match is_whiteout(&self.upper, name)? {
            true => "the whiteout",
            false => "the upper's copy",
        };
        // Not through the view: that would hide the lower's. And in one step, or what is left of it
        // would be merged with the lower's meanwhile.
        Sides::of_top(self.store.layout())?.remove(name.as_bytes())?;
        self.store.refresh_view()?;
        self.require_good(wanted)?;
        Ok(format!("removed {what}; the lower's object shows again"))
    }

    fn require_good(&self, wanted: &Recorded) -> Result<()> {
        match self.is_good(&self.view, wanted)? {
            true => Ok(()),
            false => Err(Error::on(
                "repair",
                self.view.path.join(wanted.name.as_str()),
                "the view still shows another object",
            )
            .hint("mount it again, and verify once more")),
        }
    }

    /// Makes the object that `origin` has, under a temporary name in the merged directory, and returns
    /// that; `None` if it has none.
    fn stage(&self, wanted: &Recorded, origin: &Origin) -> Result<Option<Staged<'_>>> {
        let taken = origin.with_archive(&wanted.name, |archive| {
            let staged = self.name_staged()?;
            let limit = match wanted.nar_size {
                0 => u64::MAX,
                size => size,
            };
            let reader = Stopping {
                reader: archive.take(limit),
                run: self.run,
            };
            let subject = format!("NAR of {} from {}", wanted.name, origin.label());
            let mut input = Input::new(Tee::new(reader, NarHasher::new()), subject);
            restore(&staged.place()?, &mut input)?;
            let (_, hasher) = input
                .into_inner()
                .finish()
                .map_err(|why| Error::environment("hash an archive", why))?;
            Ok((staged, hasher.finish().0))
        })?;
        match taken {
            None => Ok(None),
            Some((staged, hash)) if hash == wanted.nar_hash => Ok(Some(staged)),
            Some((_, hash)) => Err(Error::new(
                Kind::Corrupt,
                "its copy",
                format!("it has the hash sha256:{}", hash.base32()),
            )),
        }
    }

    /// Finds a free name that collectors know as a temporary one.
    fn name_staged(&self) -> Result<Staged<'_>> {
        loop {
            let n = self.staged.get();
            self.staged.set(n + 1);
            let name = format!("tmp-{}-repair-{n}", std::process::id());
            if !self.view.has(&name)? {
                let view = self.view;
                return Ok(Staged { view, name });
            }
        }
    }

    /// Puts a good object in the place of what the view shows, if anything.
    fn put(&self, wanted: &Recorded, staged: &Staged<'_>) -> Result<()> {
        let name = wanted.name.as_str();
        let below = match &self.lower {
            Some(lower) => lower.has(name)?,
            None => false,
        };
        if below {
            self.hide(name)?;
        } else if self.view.has(name)? {
            match self.rename(staged, name, RenameFlags::EXCHANGE) {
                // The bad one has the temporary name now, and goes with it.
                Ok(()) => return self.require_good(wanted),
                Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV | Errno::OPNOTSUPP) => {
                    remove_tree(&self.place(name)?)?;
                }
                Err(why) => return Err(self.unplaced(name, why)),
            }
        }
        self.rename(staged, name, RenameFlags::NOREPLACE)
            .map_err(|why| self.unplaced(name, why))?;
        self.require_good(wanted)
    }

    /// Removes an object of the lower from sight.
    fn hide(&self, name: &str) -> Result<()> {
        let merged = &self.store.layout().merged;
        match self.backend {
            Some(Backend::Fuse) => {
                let mut held = self.held.borrow_mut();
                if held.is_none() {
                    *held = Some(RepairHold::new(merged)?);
                }
            }
            // A removal leaves a whiteout there, and what is made in its place is opaque, as with Nix.
            Some(Backend::Kernel) => {}
            None => {
                let why = "no merged view is mounted there, so the lower's object cannot be hidden";
                return Err(Error::on("repair", merged.join(name), why)
                    .hint("mount the store: overstore mount URL"));
            }
        }
        remove_tree(&self.place(name)?).map(drop)
    }

    fn place<'n>(&self, name: &'n str) -> Result<Place<'n>>
    where
        'a: 'n,
    {
        Place::new(self.view.dir, name.as_bytes(), self.view.path)
    }

    fn rename(
        &self,
        staged: &Staged<'_>,
        name: &str,
        flags: RenameFlags,
    ) -> rustix::io::Result<()> {
        let dir = self.view.dir;
        rustix::fs::renameat_with(dir, staged.name.as_str(), dir, name, flags)
    }

    fn unplaced(&self, name: &str, why: Errno) -> Error {
        Error::on("put a good object at", self.view.path.join(name), why)
    }
}

/// Something under a temporary name, removed when this is dropped.
#[derive(Debug)]
struct Staged<'a> {
    view: Objects<'a>,
    name: String,
}

impl Staged<'_> {
    fn place(&self) -> Result<Place<'_>> {
        Place::new(self.view.dir, self.name.as_bytes(), self.view.path)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Err(why) = self.place().and_then(|place| remove_tree(&place)) {
            log::warn!("{why}");
        }
    }
}

/// Ends with an error when it is time.
struct Stopping<'a, R> {
    reader: R,
    run: Run<'a>,
}

impl<R: Read> Read for Stopping<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.run.interrupt.is_set() {
            return Err(io::Error::other("interrupted"));
        }
        self.reader.read(bytes)
    }
}
