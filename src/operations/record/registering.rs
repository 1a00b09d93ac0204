// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that were read become valid, under the locks that Nix takes.
//!
//! Invariants: an object is registered only while it is locked and rooted, not valid, and what it
//! was when it was read; and the view is held for no longer than a moment, whoever has the database.

use super::batch::{Batch, Waiting};
use super::reading::{self, Object};
use super::{Recorder, has};
use crate::backend::mountid::MountId;
use crate::error::{Error, Result};
use crate::metadata::{Asked, Registration, Source, Upper, is_locked, lower};
use crate::roots::{PathLocks, TempRoots};
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long others that write to the database are waited for. Nix waits for an hour, and holds
/// nothing of the view meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long they are waited for while objects are locked, which holds the view.
const IN_PASSING: Duration = Duration::from_millis(20);

/// What is true of an object of a batch, now that it is locked.
enum Now {
    Ready,
    Valid,
    Changed(Error),
}

impl Recorder {
    /// Fails where the database cannot be written; to be asked before anything is read for it.
    pub(super) fn writable(&self) -> Result<()> {
        Upper::open_patient(&self.layout, PATIENCE, &self.interrupt).map(drop)
    }

    /// Registers what can be of `batch`; returns what is valid then. The rest is put off.
    pub(super) fn register(&mut self, mut batch: Batch) -> Result<Vec<ObjectName>> {
        let Some(state) = self.layout.state.clone() else {
            return Ok(Vec::new());
        };
        if batch.names().is_empty() {
            return Ok(Vec::new());
        }
        let mut upper = Upper::open_patient(&self.layout, PATIENCE, &self.interrupt)?;
        let temp = TempRoots::open(&state, &self.dir, self.interrupt.clone())?;
        for name in batch.needed() {
            temp.add(&name)?;
        }
        // From the first lock on the view is held: what may take its time comes before.
        let lower = self.asked(&batch, &upper)?;
        upper.wait_for_turn()?;
        upper.wait_no_longer_than(IN_PASSING)?;
        let locks = self.lock(&mut batch)?;
        let mut valid = Vec::new();
        for name in batch.names() {
            let Some(object) = batch.get(&name) else {
                continue;
            };
            match self.now(object, &upper, lower.as_ref())? {
                Now::Ready => {}
                Now::Valid => valid.push(name),
                Now::Changed(why) => {
                    self.put_off(&name, &why);
                    let waiting = batch.without(&name);
                    self.wait_all(waiting);
                }
            }
        }
        self.interrupt.check("record objects")?;
        valid.extend(self.write(&mut upper, lower.as_ref(), &batch)?);
        let locked = locks.iter().map(|(name, _)| name.clone()).collect();
        drop(locks);
        self.pass_over_locks(&locked)?;
        Ok(valid)
    }

    /// Asks the lower about all that is to be known of it while the objects are locked.
    fn asked(&self, batch: &Batch, upper: &Upper) -> Result<Option<Asked>> {
        let Some(lower) = lower::open_live(&self.layout, &self.interrupt)? else {
            return Ok(None);
        };
        let mut names: BTreeSet<ObjectName> = batch.names().into_iter().collect();
        for other in batch.needed() {
            if !upper.is_valid(&other)? {
                names.insert(other);
            }
        }
        let asked = Asked::default();
        asked.ask(names, upper, lower.as_ref())?;
        Ok(Some(asked))
    }

    /// Locks the objects; those that others have locked are put off.
    fn lock(&mut self, batch: &mut Batch) -> Result<Vec<(ObjectName, PathLocks)>> {
        let merged = self.layout.merged.clone();
        let mounted = MountId::of(&merged);
        if mounted.as_ref().ok() != Some(&self.view) {
            let why = "the view is not mounted there any more";
            return Err(Error::on("lock objects in", &merged, why)
                .hint("it is still served where it was before; unmount that"));
        }
        let mut locks = Vec::new();
        for name in batch.names() {
            if batch.get(&name).is_none() {
                // It waits for one that is locked.
                continue;
            }
            match PathLocks::try_take(&merged, &BTreeSet::from([name.clone()]))? {
                Some(lock) => locks.push((name, lock)),
                None => {
                    let why = Error::usage(self.subject(&name), "somebody has it locked")
                        .hint("it is looked at again when its lock goes");
                    self.put_off(&name, &why);
                    let waiting = batch.without(&name);
                    self.wait_all(waiting);
                }
            }
        }
        Ok(locks)
    }

    fn now(&self, object: &Object, upper: &Upper, lower: Option<&Asked>) -> Result<Now> {
        let name = &object.info.name;
        if upper.is_valid(name)? {
            return Ok(Now::Valid);
        }
        let below = match lower {
            Some(lower) => lower.is_valid(name)?,
            None => false,
        };
        let changed = |why| Error::usage(self.subject(name), why);
        if below || has(self.lower.as_fd(), name)? {
            return Ok(Now::Changed(changed(
                "the lower has got an object of this name",
            )));
        }
        match reading::see(&self.place(name)?, name, &self.owners) {
            Ok(again) if again.is_still(&object.seen) => Ok(Now::Ready),
            Ok(_) => Ok(Now::Changed(changed("it was changed while it was read"))),
            Err(why) => Ok(Now::Changed(why)),
        }
    }

    /// Registers the batch at once, or, if that is refused, whatever of it can be.
    fn write(
        &mut self,
        upper: &mut Upper,
        lower: Option<&Asked>,
        batch: &Batch,
    ) -> Result<Vec<ObjectName>> {
        let Err(why) = register(upper, lower, &batch.all()) else {
            return Ok(batch.names());
        };
        if is_locked(&why) {
            // Later, when nothing of the view is held.
            return Err(why);
        }
        log::debug!("one by one: {why}");
        let mut registered = Vec::new();
        for name in batch.names() {
            self.interrupt.check("record objects")?;
            match register(upper, lower, &batch.closure(&name)) {
                Ok(()) => registered.push(name),
                Err(why) => {
                    let hint = "overstore seal, or nix-store --register-validity, tells more";
                    let why = Error::new(why.kind(), self.subject(&name), &why).hint(hint);
                    self.tell(Some(&name), &why);
                    self.put_off(&name, &why);
                }
            }
        }
        Ok(registered)
    }

    fn wait_all(&mut self, waiting: Waiting) {
        for (name, on) in waiting {
            self.wait_for(&name, on);
        }
    }

    /// Takes no notice of the locks that were its own: they tell nothing of the objects.
    fn pass_over_locks(&mut self, locked: &BTreeSet<ObjectName>) -> Result<()> {
        let own = locked
            .iter()
            .map(|name| format!("{name}.lock").into_bytes());
        let own: BTreeSet<Vec<u8>> = own.collect();
        self.take_events(Instant::now(), |name| own.contains(name))
            .map(drop)
    }
}

fn register(upper: &mut Upper, lower: Option<&Asked>, objects: &[&Object]) -> Result<()> {
    let batch: Vec<Registration> = objects
        .iter()
        .map(|object| Registration {
            info: object.info.clone(),
            outputs: object.outputs.clone(),
        })
        .collect();
    upper.write(|change| match lower {
        Some(lower) => change.register_merging(&batch, lower),
        None => change.register(&batch),
    })
}
