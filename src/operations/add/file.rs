// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is added to a store from outside: a file or tree, and how it becomes an object.
//!
//! Invariant: the object is what its name says, whatever happens to the source meanwhile: it is read
//! twice, once for the name and once for the content, and both must agree.

use super::content::{Second, Single};
use super::put::{Put, check_archive, put_by};
use super::watched::Watched;
use crate::error::{Error, Kind, Result};
use crate::nar::{Both, Discard, Fan, NarHasher, Place, Sink, Writer, tell};
use crate::operations::Store;
use crate::roots::Interrupt;
use crate::store::make::{self, MakeError, References};
use crate::store::{
    Algorithm, ContentAddress, Hash, Method, ObjectName, PathInfo, Sha256, StoreDir,
};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How a source becomes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The name part, if it is not that of the source.
    pub name: Option<String>,
    /// What of the source fixes the name.
    pub method: Method,
    /// By which hash.
    pub algorithm: Algorithm,
    /// What the object refers to, as the caller says.
    pub references: BTreeSet<ObjectName>,
}

impl Default for Recipe {
    /// That of `nix-store --add`.
    fn default() -> Recipe {
        Recipe {
            name: None,
            method: Method::Nar,
            algorithm: Algorithm::Sha256,
            references: BTreeSet::new(),
        }
    }
}

/// Adds the file or tree at `path`, which is absolute.
///
/// # Errors
/// Also if it is changed while it is read.
pub fn add(store: &mut Store, path: &Path, recipe: &Recipe) -> Result<(ObjectName, Put)> {
    let source = Source::open(path)?;
    let info = source.info(store.dir(), recipe, store.interrupt())?;
    let what = source.what();
    let put = put_by(store, &info, |making| {
        let again = source.read(recipe, making.interrupt, &mut making.restorer)?;
        check_archive(&info, again.nar_hash, again.nar_size, &what).map_err(|_| changed(&what))?;
        match &info.ca {
            Some(address) if address.hash == again.address => Ok(()),
            _ => Err(changed(&what)),
        }
    })?;
    Ok((info.name, put))
}

/// Returns what the file or tree at `path`, which is absolute, would be as an object.
pub fn plan(
    dir: &StoreDir,
    path: &Path,
    recipe: &Recipe,
    interrupt: &Interrupt,
) -> Result<PathInfo> {
    Source::open(path)?.info(dir, recipe, interrupt)
}

fn changed(what: &str) -> Error {
    Error::new(Kind::Environment, what, "it was changed while it was read")
        .hint("try again when nobody changes it")
}

/// A name in a directory, anywhere.
struct Source<'p> {
    path: &'p Path,
    name: &'p OsStr,
    within: PathBuf,
    dir: OwnedFd,
}

/// What was seen when a source was read.
struct Seen {
    nar_hash: Sha256,
    nar_size: u64,
    /// What fixes the name.
    address: Hash,
}

impl<'p> Source<'p> {
    fn open(path: &'p Path) -> Result<Source<'p>> {
        let (Some(within), Some(name)) = (path.parent(), path.file_name()) else {
            let what = format!("add {}", path.display());
            return Err(Error::usage(what, "it has no name"));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(within, flags, Mode::empty())
            .map_err(|why| Error::on("add", path, why))?;
        Ok(Source {
            path,
            name,
            within: within.to_owned(),
            dir,
        })
    }

    fn what(&self) -> String {
        format!("add {}", self.path.display())
    }

    /// Reads everything, and tells which object it makes.
    fn info(&self, dir: &StoreDir, recipe: &Recipe, interrupt: &Interrupt) -> Result<PathInfo> {
        let wrong = |why: MakeError| name_error(&self.what(), &why);
        let name = match (&recipe.name, self.name.to_str()) {
            (Some(name), _) => name,
            (None, Some(name)) => name,
            (None, None) => return Err(Error::usage(self.what(), "its name is not UTF-8")),
        };
        if recipe.method == Method::Text && recipe.algorithm != Algorithm::Sha256 {
            return Err(Error::usage(self.what(), "text is hashed by sha256 only"));
        }
        // Before what may be large is read for nothing.
        let address = |hash| ContentAddress {
            method: recipe.method,
            hash,
        };
        let references = References {
            others: &recipe.references,
            itself: false,
        };
        let any = address(Hash::of(recipe.algorithm, b""));
        make::for_content(dir, &any, name, references).map_err(wrong)?;
        let seen = self.read(recipe, interrupt, &mut Discard)?;
        let address = address(seen.address);
        let object = make::for_content(dir, &address, name, references).map_err(wrong)?;
        let mut info = PathInfo::new(object, seen.nar_hash, seen.nar_size);
        info.references.clone_from(&recipe.references);
        info.ca = Some(address);
        Ok(info)
    }

    /// Reads everything, and tells `sink` what the object holds.
    fn read(&self, recipe: &Recipe, interrupt: &Interrupt, sink: &mut impl Sink) -> Result<Seen> {
        let what = self.what();
        let place = Place::new(self.dir.as_fd(), self.name.as_bytes(), &self.within)?;
        let whole = recipe.method == Method::Nar;
        let second = whole && recipe.algorithm != Algorithm::Sha256;
        let second = Second(second.then(|| recipe.algorithm.hasher()));
        let subject = format!("NAR of {}", self.path.display());
        let mut writer = Writer::new(Fan(NarHasher::new(), second), subject)?;
        let mut both = Both(&mut writer, sink);
        let mut watched = Watched::new(&mut both, interrupt, &what);
        let content = if whole {
            tell(&place, &mut watched)?;
            None
        } else {
            let mut single = Single::new(recipe.algorithm.hasher(), watched, self.path);
            tell(&place, &mut single)?;
            Some(single.finish())
        };
        let Fan(nar, second) = writer.finish()?;
        let (nar_hash, nar_size) = nar.finish();
        let second = second.0.map(crate::store::Hasher::finish);
        Ok(Seen {
            nar_hash,
            nar_size,
            address: content.or(second).unwrap_or_else(|| nar_hash.into()),
        })
    }
}

fn name_error(what: &str, why: &MakeError) -> Error {
    let error = Error::usage(what, why);
    match why {
        MakeError::Name(_) => error.hint("give it another name: --name NAME"),
        MakeError::References => error.hint("references go with --mode text and --mode nar"),
    }
}
