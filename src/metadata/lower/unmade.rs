// SPDX-License-Identifier: MIT OR Apache-2.0
//! A local lower store whose database has not been made.
//!
//! Nix makes one as soon as it opens the store; here the lower is never written. What it would then find
//! is known of names that the store directory does not have: they are not valid. Invariant: of an object
//! that is there nobody is told that it is not valid, since its database may just be elsewhere, or not
//! mounted; taken for garbage, it would be hidden, left out of references or removed.

use super::super::source::Source;
use crate::error::{Error, Result};
use crate::store::{ObjectName, Outputs, PathInfo};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Such a store.
#[derive(Debug)]
pub(super) struct Unmade {
    directory: PathBuf,
    state: PathBuf,
}

impl Unmade {
    /// The store whose objects are in `directory`, and whose state would be in `state`.
    pub(super) fn new(directory: &Path, state: &Path) -> Unmade {
        Unmade {
            directory: directory.to_owned(),
            state: state.to_owned(),
        }
    }

    /// Fails if there is an object of this name.
    fn refuse(&self, name: &ObjectName) -> Result<()> {
        let path = self.directory.join(name.as_str());
        match path.symlink_metadata() {
            Ok(_) => Err(self.unknown(name.as_str())),
            Err(why) if is_absence(why.kind()) => Ok(()),
            Err(why) => Err(Error::on("look at", path, why)),
        }
    }

    /// Fails if there is any object.
    fn refuse_any(&self) -> Result<()> {
        let failed = |why| Error::on("list lower store directory", &self.directory, why);
        let entries = match std::fs::read_dir(&self.directory) {
            Err(why) if is_absence(why.kind()) => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if ObjectName::parse(name.as_encoded_bytes()).is_ok() {
                return Err(self.unknown(&name.display().to_string()));
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let what = format!(
            "read the lower store with the state directory {}",
            self.state.display()
        );
        let why = format!(
            "it has no database, which would tell whether {} is valid",
            self.directory.join(name).display()
        );
        Error::environment(what, why).hint(
            "name its state directory in lower-store (state=/DIR), mount what that lies on, \
             or register its objects (nix-store --store LOWER --load-db)",
        )
    }
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Source for Unmade {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        self.refuse(name).map(|()| None)
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        self.refuse(name).map(|()| false)
    }

    fn referrers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.refuse_any().map(|()| BTreeSet::new())
    }

    fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.refuse_any().map(|()| BTreeSet::new())
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        self.refuse(drv).map(|()| Outputs::new())
    }

    fn with_hash_part(&self, _: &str) -> Result<Option<ObjectName>> {
        self.refuse_any().map(|()| None)
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        self.refuse_any().map(|()| BTreeSet::new())
    }
}
