// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of this room share.

use super::{HashPart, Root, Stale, find_temp_roots};
use crate::store::{ObjectName, StoreDir};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const OBJECT: &str = "bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d";
pub(super) const OTHER: &str = "6cqlk0wyg2a11s0vxfc5clwd04ykrzv5-other.drv";

pub(super) fn object(name: &str) -> ObjectName {
    ObjectName::parse(name.as_bytes()).unwrap()
}

pub(super) fn root(link: &Path, name: &str) -> Root {
    Root {
        link: link.to_owned(),
        object: object(name),
    }
}

/// A state directory.
pub(super) struct World {
    _scratch: tempfile::TempDir,
    pub(super) state: PathBuf,
    pub(super) store: StoreDir,
}

impl World {
    pub(super) fn new() -> World {
        let scratch = tempfile::tempdir().unwrap();
        World {
            state: scratch.path().canonicalize().unwrap(),
            _scratch: scratch,
            store: StoreDir::new(Path::new("/nix/store")).unwrap(),
        }
    }

    /// Has the state at a path that no socket address holds.
    pub(super) fn deepen(&mut self) {
        self.state.push("d".repeat(120));
        fs::create_dir(&self.state).unwrap();
    }

    pub(super) fn temp_roots(&self) -> BTreeSet<HashPart> {
        find_temp_roots(&self.state, &self.store, Stale::Remove).unwrap()
    }

    /// Sends `text` to the collector, and reads so many answers.
    pub(super) fn ask_directly(&self, text: &str, answers: usize) {
        let mut stream = UnixStream::connect(self.state.join("gc-socket/socket")).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut read = vec![0; answers];
        stream.read_exact(&mut read).unwrap();
        assert_eq!(read, vec![b'1'; answers]);
    }
}

/// Writes a file and holds its lock, as a living process does.
pub(super) fn held(path: &Path, content: &[u8]) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    let file = File::open(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// Waits for what another thread or process is to do.
pub(super) fn until(done: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < limit, "it never happens");
        crate::wait::nap(Duration::from_millis(1));
    }
}
