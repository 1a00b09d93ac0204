// SPDX-License-Identifier: MIT OR Apache-2.0
//! A database on this machine that is asked for long, while others write it.
//!
//! Invariant: nothing is held of the database between two questions but what every reader of it holds
//! while it has it open. A question sees one state, the next may see a later one: whoever reads one state
//! for long keeps the writer from emptying its log, which then grows without a limit.

use super::local::Local;
use super::realisation::Realisation;
use super::source::Source;
use crate::error::Result;
use crate::store::{ObjectName, Outputs, PathInfo, StoreDir};
use crate::wait::Interrupt;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How often a question is asked anew that somebody wrote into.
const TRIES: usize = 5;

/// A local database, opened again when it must be.
#[derive(Debug)]
pub(super) struct Live {
    state: PathBuf,
    dir: StoreDir,
    interrupt: Interrupt,
    opened: RefCell<Option<Local>>,
}

impl Live {
    /// Opens the database of `state` as [`Local::open`] does; `None` if there is none yet. `interrupt`
    /// ends every wait for others.
    pub(super) fn open(
        state: &Path,
        dir: &StoreDir,
        interrupt: &Interrupt,
    ) -> Result<Option<Live>> {
        let Some(local) = Local::open_until(state, dir, interrupt)? else {
            return Ok(None);
        };
        local.reader().rest()?;
        Ok(Some(Live {
            state: state.to_owned(),
            dir: dir.clone(),
            interrupt: interrupt.clone(),
            opened: RefCell::new(Some(local)),
        }))
    }

    /// Asks one question, until the answer is whole.
    fn ask<T>(&self, question: impl Fn(&Local) -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            let local = self.awake()?;
            let answer = question(&local);
            match local.finish() {
                Ok(()) => {
                    local.reader().rest()?;
                    *self.opened.borrow_mut() = Some(local);
                    return answer;
                }
                // It is opened anew: how its log is to be read has changed.
                Err(why) if tries == TRIES => return Err(why),
                Err(why) => log::debug!("asking again: {why}"),
            }
        }
    }

    fn awake(&self) -> Result<Local> {
        if let Some(local) = self.opened.borrow_mut().take() {
            local.reader().begin()?;
            return Ok(local);
        }
        let opened = Local::open_until(&self.state, &self.dir, &self.interrupt)?;
        opened.ok_or_else(|| super::database::missing(&super::database::path(&self.state)))
    }
}

impl Source for Live {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        self.ask(|local| local.path_info(name))
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        self.ask(|local| local.is_valid(name))
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.ask(|local| local.referrers(name))
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.ask(|local| local.valid_derivers(name))
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        self.ask(|local| local.outputs(drv))
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        self.ask(|local| local.with_hash_part(hash_part))
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        self.ask(|local| local.all_valid())
    }

    fn realisation(&self, derivation: &str, output: &str) -> Result<Option<Realisation>> {
        self.ask(|local| local.realisation(derivation, output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Upper;
    use super::super::tests::Scratch;
    use super::super::upper_tests::object;
    use super::*;
    use rusqlite::Connection;

    fn live(scratch: &Scratch) -> Live {
        let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
        let state = scratch.layout().state.unwrap();
        Live::open(&state, &dir, &Interrupt::never())
            .unwrap()
            .unwrap()
    }

    /// Writes a row as another process does, that is without this one's locks in the way.
    fn insert(database: &Connection, number: u32) {
        let row = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES (?1, ?2, 7)";
        let hash = crate::store::Sha256::of(b"x").hex();
        let path = format!("/nix/store/{}", object(number).info.name);
        database
            .execute(row, [path, format!("sha256:{hash}")])
            .unwrap();
    }

    /// The log is emptied although the source is open, and what was written since is seen.
    #[test]
    fn a_writer_may_empty_its_log() {
        let scratch = Scratch::new();
        drop(Upper::open(&scratch.layout()).unwrap());
        let writer = scratch.database();
        insert(&writer, 1);
        let live = live(&scratch);
        assert_eq!(live.all_valid().unwrap().len(), 1);
        for number in 2..5 {
            insert(&writer, number);
            let emptied: i64 = writer
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .unwrap();
            assert_eq!(emptied, 0, "a reader is in the way");
            assert_eq!(live.all_valid().unwrap().len(), number as usize);
        }
    }

    /// A database that was at rest when it was opened, so that it was read without its log.
    #[test]
    fn a_log_that_begins_is_read() {
        let scratch = Scratch::new();
        drop(Upper::open(&scratch.layout()).unwrap());
        for suffix in ["-wal", "-shm"] {
            std::fs::remove_file(scratch.path(&format!("db/db.sqlite{suffix}"))).unwrap();
        }
        let live = live(&scratch);
        assert_eq!(live.is_valid(&object(1).info.name), Ok(false));
        let writer = scratch.database();
        insert(&writer, 1);
        assert_eq!(live.is_valid(&object(1).info.name), Ok(true));
    }
}
