// SPDX-License-Identifier: MIT OR Apache-2.0
//! The logical store directory, which store paths spell out.

use super::name::{NameError, ObjectName};
use super::path::canonical;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A logical store directory, usually `/nix/store`: absolute and canonical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(PathBuf);

impl StoreDir {
    /// Takes `path` as store directory, made canonical; `None` if it is not absolute.
    pub fn new(path: &Path) -> Option<StoreDir> {
        canonical(path.as_os_str().as_bytes()).map(StoreDir)
    }

    /// Returns the directory.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the store path of the object `name`.
    pub fn store_path(&self, name: &ObjectName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Parses a store path; `None` if `path` does not stand directly in this directory.
    pub fn parse(&self, path: &Path) -> Option<Result<ObjectName, NameError>> {
        let path = canonical(path.as_os_str().as_bytes())?;
        if path.parent() != Some(self.as_path()) {
            return None;
        }
        Some(ObjectName::parse(path.file_name()?.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_paths_round_trip() {
        let dir = StoreDir::new(Path::new("/nix//store/")).unwrap();
        let path = Path::new("/nix/store/bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d");
        let name = dir.parse(path).unwrap().unwrap();
        assert_eq!(dir.store_path(&name), path);
        assert_eq!(dir.as_path(), Path::new("/nix/store"));
    }

    #[test]
    fn other_paths_are_not_store_paths() {
        let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
        for path in [
            "/nix/store",
            "/nix",
            "/nix/store/a/b",
            "nix/store/x",
            "/other/a",
        ] {
            assert!(dir.parse(Path::new(path)).is_none(), "{path}");
        }
        assert!(dir.parse(Path::new("/nix/store/.links")).unwrap().is_err());
        assert!(StoreDir::new(Path::new("nix/store")).is_none());
    }
}
