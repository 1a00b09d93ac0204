// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream of `nix-store --export` and `--import`: several objects, each an archive followed by
//! what it refers to.
//!
//! The order (dependencies first) is the writer's to keep and the importer's to check against what is
//! valid. Invariant: names in an accepted stream are store paths of the one store directory, and
//! lists are bounded.

use super::dump::dump;
use super::place::Place;
use super::reader::read;
use super::sink::Sink;
use super::tee::{Fan, NarHasher, Tee};
use super::wire::{Input, put_number, put_string};
use crate::error::{Error, Kind, Result};
use crate::store::{ObjectName, PathInfo, Sha256, StoreDir};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An object may have this many references; Nix has no limit.
pub const MAX_REFERENCES: u64 = 1 << 17;

/// Longest store path, in bytes: what the system takes as a path.
const MAX_PATH_BYTES: usize = 4096;

/// Longest signature of the old kind, in bytes; nobody reads them any more.
const MAX_SIGNATURE_BYTES: usize = 64 * 1024;

/// What stands between an archive and what is known of its object.
const MAGIC: u64 = 0x4558_494e;

/// One object of a stream, its archive aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The object.
    pub name: ObjectName,
    /// What it refers to, itself included if it does.
    pub references: BTreeSet<ObjectName>,
    /// The derivation that made it, where known.
    pub deriver: Option<ObjectName>,
    /// The digest of its archive, as it came.
    pub nar_hash: Sha256,
    /// The size of its archive, as it came.
    pub nar_size: u64,
}

/// Reads the objects of a stream, one after the other.
#[derive(Debug)]
pub struct ExportReader<R> {
    input: Input<R>,
    store: StoreDir,
    ended: bool,
}

impl<R: Read> ExportReader<R> {
    /// Begins to read; `subject` is the stream's name in messages ("export stream").
    pub fn new(reader: R, subject: impl Into<String>, store: StoreDir) -> ExportReader<R> {
        ExportReader {
            input: Input::new(reader, subject),
            store,
            ended: false,
        }
    }

    /// Reads the next object: `sink` is told what its archive holds before anybody knows whose it
    /// is. `None` is the end of the stream; what follows it is left in the reader.
    pub fn next_object(&mut self, sink: &mut impl Sink) -> Result<Option<Exported>> {
        if self.ended {
            return Ok(None);
        }
        match self.input.number()? {
            0 => {
                self.ended = true;
                Ok(None)
            }
            1 => self.object(sink).map(Some),
            other => Err(self
                .input
                .bad(format!("{other} where an object should begin"))),
        }
    }

    /// Returns the reader, with what follows the stream.
    pub fn into_inner(self) -> R {
        self.input.into_inner()
    }

    fn object(&mut self, sink: &mut impl Sink) -> Result<Exported> {
        let (nar_hash, nar_size) = self.archive(sink)?;
        if self.input.number()? != MAGIC {
            return Err(self.input.bad("no mark after the archive of an object"));
        }
        let name = self.path("an object")?;
        let name = name.ok_or_else(|| self.input.bad("an object without a path"))?;
        let references = self.references()?;
        let deriver = self.path("a deriver")?;
        match self.input.number()? {
            0 => {}
            1 => drop(self.input.string("a signature", MAX_SIGNATURE_BYTES)?),
            other => return Err(self.input.bad(format!("{other} where a signature may be"))),
        }
        Ok(Exported {
            name,
            references,
            deriver,
            nar_hash,
            nar_size,
        })
    }

    fn archive(&mut self, sink: &mut impl Sink) -> Result<(Sha256, u64)> {
        let (subject, position) = (self.input.subject().to_owned(), self.input.position());
        let tee = Tee::new(&mut self.input, NarHasher::new());
        let mut nar = Input::at(tee, subject, position);
        read(&mut nar, sink)?;
        match nar.into_inner().finish() {
            Ok((_, hasher)) => Ok(hasher.finish()),
            Err(error) => Err(self.input.bad(error)),
        }
    }

    fn references(&mut self) -> Result<BTreeSet<ObjectName>> {
        let count = self.input.number()?;
        if count > MAX_REFERENCES {
            let why = format!("{count} references of one object; {MAX_REFERENCES} is the limit");
            return Err(self.input.bad(why));
        }
        let mut references = BTreeSet::new();
        for _ in 0..count {
            let name = self.path("a reference")?;
            let name = name.ok_or_else(|| self.input.bad("a reference without a path"))?;
            if references.last().is_some_and(|last| *last >= name) {
                let why = format!("the reference {name} does not come after the one before it");
                return Err(self.input.bad(why));
            }
            references.insert(name);
        }
        Ok(references)
    }

    /// Reads a store path, or nothing.
    fn path(&mut self, what: &str) -> Result<Option<ObjectName>> {
        let bytes = self
            .input
            .string(&format!("the path of {what}"), MAX_PATH_BYTES)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let shown = bytes.escape_ascii();
        let dir = self.store.as_path().display();
        let name = match self.store.parse(Path::new(OsStr::from_bytes(&bytes))) {
            None => {
                return Err(self
                    .input
                    .bad(format!("'{shown}' is not directly in {dir}")));
            }
            Some(name) => name.map_err(|why| self.input.bad(format!("'{shown}': {why}")))?,
        };
        if self.store.store_path(&name).as_os_str().as_bytes() != bytes {
            return Err(self
                .input
                .bad(format!("'{shown}' is spelt in an unusual way")));
        }
        Ok(Some(name))
    }
}

/// Writes a stream, object by object; [`super::dependencies_first`] tells the order.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    subject: String,
    store: StoreDir,
}

impl<W: Write> ExportWriter<W> {
    /// Begins a stream; `subject` is its name in messages ("export stream").
    pub fn new(out: W, subject: impl Into<String>, store: StoreDir) -> ExportWriter<W> {
        ExportWriter {
            out,
            subject: subject.into(),
            store,
        }
    }

    /// Writes the object at `place`, which must be what `info` says. After an error the stream is
    /// none.
    pub fn object(&mut self, info: &PathInfo, place: &Place<'_>) -> Result<()> {
        self.object_by(info, |out| dump(place, out))
    }

    /// Writes an object whose archive `dump` writes.
    pub fn object_by(
        &mut self,
        info: &PathInfo,
        dump: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let failed = failed(&self.subject);
        put_number(&mut self.out, 1).map_err(&failed)?;
        let mut both = Fan(NarHasher::new(), &mut self.out);
        dump(&mut both)?;
        let (hash, size) = both.0.finish();
        let unknown = info.nar_size == 0;
        if hash != info.nar_hash || (!unknown && size != info.nar_size) {
            let what = format!("export {}", self.store.store_path(&info.name).display());
            let why = format!(
                "its content has changed: {hash} instead of {}",
                info.nar_hash
            );
            let hint = "overstore verify tells which objects are damaged";
            return Err(Error::new(Kind::Corrupt, what, why).hint(hint));
        }
        self.put_info(info).map_err(&failed)
    }

    /// Ends the stream.
    pub fn finish(mut self) -> Result<W> {
        let put = put_number(&mut self.out, 0).and_then(|()| self.out.flush());
        put.map_err(failed(&self.subject))?;
        Ok(self.out)
    }

    fn put_info(&mut self, info: &PathInfo) -> io::Result<()> {
        let (out, store) = (&mut self.out, &self.store);
        let path = |name: &ObjectName| store.store_path(name).into_os_string();
        put_number(out, MAGIC)?;
        put_string(out, path(&info.name).as_bytes())?;
        put_number(out, info.references.len() as u64)?;
        for name in &info.references {
            put_string(out, path(name).as_bytes())?;
        }
        let deriver = info.deriver.as_ref().map(path).unwrap_or_default();
        put_string(out, deriver.as_bytes())?;
        put_number(out, 0)
    }
}

fn failed<E: fmt::Display>(subject: &str) -> impl Fn(E) -> Error + use<E> {
    let what = format!("write {subject}");
    move |why| Error::environment(what.clone(), why)
}
