// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scratch directories with state directories in them, and small objects.

use overstore::layout::{Layout, LowerStore, Settings};
use overstore::metadata::{Local, Registration, Upper};
use overstore::store::{ObjectName, PathInfo, Sha256, StoreDir};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory in memory, where there is such a filesystem.
pub(crate) fn scratch() -> TempDir {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("overstore-metadata-");
        builder
    };
    let memory = builder().tempdir_in("/dev/shm");
    memory.unwrap_or_else(|_| builder().tempdir().unwrap())
}

/// A layout with its state in `state`.
pub(crate) fn layout(state: &Path) -> Layout {
    Layout {
        lower: PathBuf::from("/l"),
        lower_store: LowerStore::Directory,
        upper: PathBuf::from("/u"),
        work: None,
        merged: PathBuf::from("/m"),
        store_dir: PathBuf::from("/nix/store"),
        state: Some(state.to_owned()),
        check_mount: true,
        read_only: false,
        settings: Settings::default(),
    }
}

pub(crate) fn upper(state: &Path) -> Upper {
    Upper::open(&layout(state)).unwrap()
}

pub(crate) fn store_dir() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).unwrap()
}

/// The database of `state`, read only.
pub(crate) fn local(state: &Path) -> Local {
    Local::open(state, &store_dir()).unwrap().unwrap()
}

/// The database of `state`, without any of Nix's settings.
pub(crate) fn raw(state: &Path) -> Connection {
    let connection = Connection::open(state.join("db/db.sqlite")).unwrap();
    let mut keep = 1;
    let persist = rusqlite::FileControl::PersistWal(&mut keep);
    connection
        .file_control(Some(rusqlite::MAIN_DB), persist)
        .unwrap();
    connection.execute_batch("PRAGMA foreign_keys = 0").unwrap();
    connection
}

/// The object of this number; every fifth is a derivation.
pub(crate) fn name(number: u32) -> ObjectName {
    let end = if number.is_multiple_of(5) { ".drv" } else { "" };
    ObjectName::parse(format!("{number:032}-x{end}").as_bytes()).unwrap()
}

/// A plain object with these references.
pub(crate) fn object(number: u32, references: &[u32]) -> Registration {
    let hash = Sha256::of(&number.to_be_bytes());
    let mut info = PathInfo::new(name(number), hash, 96);
    info.references = references.iter().copied().map(name).collect();
    info.registration_time = 1_700_000_000;
    Registration::new(info)
}
