// SPDX-License-Identifier: MIT OR Apache-2.0
//! One transaction on the upper database: rows made, brought up to date and removed.
//!
//! Invariant: every statement is one that Nix would do, so that rows of ours and of Nix are the same;
//! and no row refers to one that does not exist.

use super::columns;
use super::order;
use super::rows::{Rowed, Rows};
use crate::error::{Error, Kind, Result};
use crate::store::{ObjectName, Outputs, PathInfo};
use rusqlite::Params;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

const INSERT: &str = "
INSERT INTO ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const UPDATE: &str = "
UPDATE ValidPaths SET narSize = ?2, hash = ?3, ultimate = ?4, sigs = ?5, ca = ?6 WHERE path = ?1";

const ADD_REFERENCE: &str = "
INSERT OR REPLACE INTO Refs (referrer, reference)
SELECT referrer.id, reference.id FROM ValidPaths AS referrer, ValidPaths AS reference
WHERE referrer.path = ?1 AND reference.path = ?2";

const ADD_OUTPUT: &str = "
INSERT OR REPLACE INTO DerivationOutputs (drv, id, path)
SELECT id, ?2, ?3 FROM ValidPaths WHERE path = ?1";

const SIGN: &str = "UPDATE ValidPaths SET sigs = ?2 WHERE path = ?1";

const DELETE: &str = "DELETE FROM ValidPaths WHERE path = ?1";

/// How many referrers an error names.
const NAMED_REFERRERS: usize = 3;

/// What is registered of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The object. That a content address fixes this very name is for the caller to check.
    pub info: PathInfo,
    /// The outputs of a derivation whose paths are known; empty for other objects.
    pub outputs: Outputs,
}

impl Registration {
    /// Registers an object that is no derivation.
    pub fn new(info: PathInfo) -> Registration {
        Registration {
            info,
            outputs: Outputs::new(),
        }
    }
}

/// Whether `error` says that an object cannot be deleted because others refer to it.
pub fn is_in_use(error: &Error) -> bool {
    error.errno() == Some(Errno::BUSY.raw_os_error())
}

/// One transaction, which sees what it did itself.
#[derive(Debug)]
pub struct Change<'a> {
    pub(super) rows: Rows<'a>,
}

impl Rowed for Change<'_> {
    fn rows(&self) -> Rows<'_> {
        self.rows
    }
}

impl Change<'_> {
    /// Registers a batch, whose objects may refer to each other. Of an object that has a row, only
    /// size, hash, `ultimate`, signatures and content address are replaced, and references are added.
    ///
    /// # Errors
    /// A reference without row, and references in a circle.
    pub fn register(&self, batch: &[Registration]) -> Result<()> {
        self.refuse_cycles(batch)?;
        for registration in batch {
            let path = self.rows.names.path(&registration.info.name);
            match self.rows.is_valid(&registration.info.name)? {
                true => self.update(&path, &registration.info)?,
                false => self.insert(&path, registration)?,
            }
        }
        for registration in batch {
            self.refer(&registration.info)?;
        }
        Ok(())
    }

    /// Removes the row of `name`; tells whether there was one.
    ///
    /// # Errors
    /// While other objects refer to it; [`is_in_use`] tells this from other errors.
    pub fn delete(&self, name: &ObjectName) -> Result<bool> {
        let mut referrers = self.rows.referrers(name)?;
        referrers.remove(name);
        if !referrers.is_empty() {
            return Err(self.in_use(name, &referrers));
        }
        Ok(self.execute(DELETE, [self.rows.names.path(name)])? > 0)
    }

    /// Adds signatures to those that `name` has.
    ///
    /// # Errors
    /// Also if `name` is not valid.
    pub fn add_signatures(&self, name: &ObjectName, added: &BTreeSet<String>) -> Result<()> {
        let path = self.rows.names.path(name);
        let Some(info) = self.rows.path_info(name)? else {
            return Err(Error::new(
                Kind::Negative,
                format!("sign {path}"),
                NOT_VALID,
            ));
        };
        let all = &info.signatures | added;
        let text = signatures_text(&path, &all)?;
        self.execute(SIGN, (&path, text))?;
        Ok(())
    }

    fn insert(&self, path: &str, registration: &Registration) -> Result<()> {
        let info = &registration.info;
        let time = match info.registration_time {
            0 => now()?,
            time => time,
        };
        let values = (
            path,
            columns::hash_text(&info.nar_hash),
            time,
            info.deriver.as_ref().map(|drv| self.rows.names.path(drv)),
            size_number(path, info)?,
            info.ultimate.then_some(1),
            signatures_text(path, &info.signatures)?,
            info.ca.as_ref().map(ToString::to_string),
        );
        self.execute(INSERT, values)?;
        for (id, output) in &registration.outputs {
            self.execute(ADD_OUTPUT, (path, id, self.rows.names.path(output)))?;
        }
        Ok(())
    }

    fn update(&self, path: &str, info: &PathInfo) -> Result<()> {
        let values = (
            path,
            size_number(path, info)?,
            columns::hash_text(&info.nar_hash),
            info.ultimate.then_some(1),
            signatures_text(path, &info.signatures)?,
            info.ca.as_ref().map(ToString::to_string),
        );
        self.execute(UPDATE, values)?;
        Ok(())
    }

    fn refer(&self, info: &PathInfo) -> Result<()> {
        let referrer = self.rows.names.path(&info.name);
        for reference in &info.references {
            let path = self.rows.names.path(reference);
            if self.execute(ADD_REFERENCE, (&referrer, &path))? == 0 {
                return Err(missing_reference(&referrer, &path));
            }
        }
        Ok(())
    }

    fn refuse_cycles(&self, batch: &[Registration]) -> Result<()> {
        let mut graph: order::Graph<'_> = BTreeMap::new();
        for Registration { info, .. } in batch {
            graph.entry(&info.name).or_default().extend(info.others());
        }
        match order::references_first(&graph) {
            Ok(_) => Ok(()),
            Err((from, to)) => Err(self.cycle(from, to)),
        }
    }

    /// The error of two objects each of which needs the other first.
    pub(super) fn cycle(&self, from: &ObjectName, to: &ObjectName) -> Error {
        let what = format!("register {}", self.rows.names.path(from));
        let why = format!(
            "its reference to {} closes a cycle",
            self.rows.names.path(to)
        );
        Error::new(Kind::Negative, what, why)
    }

    fn in_use(&self, name: &ObjectName, referrers: &BTreeSet<ObjectName>) -> Error {
        let named = referrers.iter().take(NAMED_REFERRERS);
        let named: Vec<String> = named.map(|name| self.rows.names.path(name)).collect();
        let mut why = format!("it is referred to by {}", named.join(", "));
        if referrers.len() > NAMED_REFERRERS {
            why += &format!(" and {} others", referrers.len() - NAMED_REFERRERS);
        }
        let what = format!("delete {}", self.rows.names.path(name));
        Error::new(Kind::Negative, what, why)
            .hint("delete those first, or together with it")
            .caused_by(Errno::BUSY.raw_os_error())
    }

    fn execute<P: Params>(&self, statement: &str, params: P) -> Result<usize> {
        let done = self.rows.prepare(statement)?.execute(params);
        done.map_err(|why| self.rows.failed("write", &why))
    }
}

const NOT_VALID: &str = "it is not valid";

/// The error of a reference to an object that is not valid.
pub(super) fn missing_reference(referrer: &str, reference: &str) -> Error {
    let why = format!("path '{reference}', to which it refers, is not valid");
    Error::new(Kind::Negative, format!("register {referrer}"), why)
        .hint("add that object first, or both at once")
}

fn size_number(path: &str, info: &PathInfo) -> Result<Option<i64>> {
    columns::size_number(info.nar_size).map_err(|why| refused(path, why))
}

/// Returns the text of signatures, each of which must be read again as one.
fn signatures_text(path: &str, signatures: &BTreeSet<String>) -> Result<Option<String>> {
    let text = columns::signatures_text(signatures);
    let value = text.as_deref().unwrap_or("").into();
    match columns::signatures(value) {
        Ok(read) if read == *signatures => Ok(text),
        Ok(_) => Err(refused(path, "a signature has a blank in it".to_owned())),
        Err(why) => Err(refused(path, why)),
    }
}

fn refused(path: &str, why: String) -> Error {
    Error::usage(format!("register {path}"), why)
}

/// Returns the time in seconds since 1970.
fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map(|since| i64::try_from(since.as_secs()));
    match seconds {
        Ok(Ok(seconds)) => Ok(seconds),
        _ => Err(Error::environment("read the clock", "it is before 1970").hint("set it")),
    }
}
