// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a content address says of a tree, and whether that is so.
//!
//! Invariant: an address is true only of the tree that was read; one that cannot be computed here is
//! an error, never taken on trust.

use crate::error::{Error, Kind, Result};
use crate::nar::{Discard, FileHead, ModuloHasher, Place, Sink, dump, tell};
use crate::store::{Hash, Hasher, Method, PathInfo, Sha256};
use std::io::{self, Write};
use std::path::Path;

/// Checks that the object `info`, made at `place` from an archive with the hash that `info` has, is
/// what its content address says.
pub(super) fn check(info: &PathInfo, place: &Place<'_>, path: &Path) -> Result<()> {
    let Some(address) = &info.ca else {
        return Ok(());
    };
    let itself = info.references.contains(&info.name);
    let true_of_it = match address.method {
        Method::Nar if !itself && Sha256::try_from(&address.hash) == Ok(info.nar_hash) => true,
        Method::Nar => {
            let own = itself.then_some(&info.name);
            let mut hasher = ModuloHasher::new(address.hash.algorithm(), own);
            dump(place, &mut hasher)?;
            let hashes = hasher.finish();
            [hashes.zeroed, hashes.located].contains(&address.hash)
        }
        Method::Flat | Method::Text => {
            let mut file = Single::new(address.hash.algorithm().hasher(), Discard, path);
            tell(place, &mut file)?;
            file.finish() == address.hash
        }
        Method::Git => {
            let what = format!("add {}", path.display());
            let why = format!("its content address {address} is a git hash");
            return Err(Error::new(Kind::Negative, what, why)
                .hint("those are an experiment of Nix: add it with Nix"));
        }
    };
    if true_of_it {
        return Ok(());
    }
    let what = format!("add {}", path.display());
    let why = format!("its content is not what its content address {address} says");
    Err(Error::new(Kind::Corrupt, what, why).hint("get it again from where it came from"))
}

/// Takes one file, and nothing else: its content is hashed, and passed on as that of a file that
/// nobody may execute.
pub(super) struct Single<'p, S> {
    hasher: Hasher,
    sink: S,
    path: &'p Path,
}

impl<'p, S: Sink> Single<'p, S> {
    /// Begins with nothing; `path` names the file in messages.
    pub(super) fn new(hasher: Hasher, sink: S, path: &'p Path) -> Single<'p, S> {
        Single { hasher, sink, path }
    }

    /// Returns the hash of the content.
    pub(super) fn finish(self) -> Hash {
        self.hasher.finish()
    }

    fn other<T>(&self, kind: &str) -> Result<T> {
        let what = format!("add {}", self.path.display());
        let why = format!("it is {kind}, where the content of one file is hashed");
        Err(Error::usage(what, why).hint("--mode nar takes it"))
    }
}

impl<S: Sink> Sink for Single<'_, S> {
    fn directory(&mut self) -> Result<()> {
        self.other("a directory")
    }

    fn entry(&mut self, _name: &[u8]) -> Result<()> {
        self.other("a directory")
    }

    fn end_directory(&mut self) -> Result<()> {
        self.other("a directory")
    }

    fn file(&mut self, head: FileHead) -> Result<()> {
        self.sink.file(FileHead {
            executable: false,
            ..head
        })
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.sink.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.sink.end_file()
    }

    fn symlink(&mut self, _target: &[u8]) -> Result<()> {
        self.other("a symbolic link")
    }
}

/// Hashes an archive by another algorithm than the store's own, if one is wanted.
#[derive(Debug)]
pub(super) struct Second(pub(super) Option<Hasher>);

impl Write for Second {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
