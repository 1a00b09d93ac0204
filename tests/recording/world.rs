// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store to record in, objects made by hand, and what the database says of them.

use crate::common::check::{set_mtime, within};
use crate::common::fixture::Fixture;
use crate::common::mode::Mode;
use crate::common::mount::MountGuard;
use nix_nar::Encoder;
use overstore::layout::{Layout, LayoutEnv, Probe};
use overstore::metadata::{Registration, Upper};
use overstore::store::{ObjectName, PathInfo, Sha256};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the name of the recorder's process is.
const RECORDER: &str = "overstore-rec";

/// What the database has of one object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) hash: String,
    pub(crate) size: u64,
    pub(crate) references: BTreeSet<String>,
    pub(crate) ultimate: bool,
    pub(crate) ca: Option<String>,
}

/// The directories of one store.
#[derive(Debug)]
pub(crate) struct World {
    mode: Mode,
    root: PathBuf,
    pub(crate) lower: PathBuf,
    pub(crate) upper: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) merged: PathBuf,
}

impl World {
    pub(crate) fn new(fx: &Fixture) -> World {
        let root = fx.scratch("world");
        let world = World {
            mode: fx.mode(),
            lower: root.join("low/nix/store"),
            upper: root.join("up"),
            state: root.join("state"),
            merged: root.join("m/nix/store"),
            root,
        };
        for dir in [&world.lower, &world.upper, &world.merged] {
            fs::create_dir_all(dir).sure();
        }
        world
    }

    pub(crate) fn url(&self) -> String {
        let root = self.root.display();
        format!(
            "local-overlay://?root={root}/m&lower-store={root}/low&upper-layer={root}/up\
             &state={root}/state"
        )
    }

    pub(crate) fn mount(&self) -> MountGuard {
        MountGuard::store(self.mode, &self.merged, &self.url(), "record")
    }

    /// Makes an object valid in the lower.
    pub(crate) fn below(&self, name: &str, content: &str) {
        fs::write(self.lower.join(name), content).sure();
        seal(&self.lower.join(name));
        // The database of the lower is one like the upper's.
        let root = self.root.display();
        let url = format!(
            "local-overlay://?root={root}/none&lower-store={root}/none&upper-layer={root}/none\
             &state={root}/low/nix/var/nix"
        );
        let env = LayoutEnv::new([], PathBuf::from("/"), false, Probe::host());
        let (layout, ..) = Layout::from_url_and_options(&url, &[], &env).sure();
        let name = ObjectName::parse(name.as_bytes()).sure();
        let info = PathInfo::new(name, Sha256::of(content.as_bytes()), 7);
        let mut database = Upper::open(&layout).sure();
        let done = database.write(|change| change.register(&[Registration::new(info.clone())]));
        done.sure();
    }

    /// Writes a file object through the view, and completes it.
    pub(crate) fn file(&self, name: &str, content: &str) {
        fs::write(self.merged.join(name), content).sure();
        seal(&self.merged.join(name));
    }

    /// Returns the row of an object, if it is valid.
    pub(crate) fn row(&self, name: &str) -> Option<Row> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = Connection::open_with_flags(self.state.join("db/db.sqlite"), flags).sure();
        database.busy_timeout(PATIENCE).sure();
        let path = format!("/nix/store/{name}");
        let row = database
            .query_row(
                "SELECT id, hash, narSize, ultimate, ca FROM ValidPaths WHERE path = ?1",
                [&path],
                |row| {
                    let ultimate: Option<i64> = row.get(3)?;
                    let found = Row {
                        hash: row.get(1)?,
                        size: row.get::<_, i64>(2)?.cast_unsigned(),
                        references: BTreeSet::new(),
                        ultimate: ultimate.is_some(),
                        ca: row.get(4)?,
                    };
                    Ok((row.get::<_, i64>(0)?, found))
                },
            )
            .optional()
            .sure();
        let (id, mut found) = row?;
        let mut references = database
            .prepare("SELECT path FROM Refs JOIN ValidPaths ON reference = id WHERE referrer = ?1")
            .sure();
        let paths = references.query_map([id], |row| row.get::<_, String>(0));
        let names = paths
            .sure()
            .map(|path| path.sure()["/nix/store/".len()..].to_owned());
        found.references = names.collect();
        Some(found)
    }

    /// Returns the row of an object once it is valid.
    #[track_caller]
    pub(crate) fn recorded(&self, view: &MountGuard, name: &str) -> Row {
        let mut row = None;
        let done = within(PATIENCE, || {
            row = self.row(name);
            row.is_some()
        });
        assert!(done, "{name} was not recorded:\n{}", view.said());
        row.expect("it was waited for")
    }

    /// What the row of the object must say.
    pub(crate) fn expected(&self, name: &str, references: &[&str]) -> Row {
        let mut archive = Vec::new();
        let mut encoder = Encoder::new(self.upper.join(name)).sure();
        encoder.read_to_end(&mut archive).sure();
        Row {
            hash: format!("sha256:{}", hex(&Sha256::of(&archive))),
            size: archive.len() as u64,
            references: references.iter().map(|name| (*name).to_owned()).collect(),
            ultimate: false,
            ca: None,
        }
    }
}

fn hex(digest: &Sha256) -> String {
    digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name with its own hash.
pub(crate) fn name(number: usize, name: &str) -> String {
    format!("{number:032}-{name}")
}

/// Makes what is at `path` canonical, what is inside first.
pub(crate) fn seal(path: &Path) {
    let stat = fs::symlink_metadata(path).sure();
    if stat.is_dir() {
        for entry in fs::read_dir(path).sure() {
            seal(&entry.sure().path());
        }
    }
    if !stat.is_symlink() {
        let executable = stat.is_dir() || stat.permissions().mode() & 0o100 != 0;
        let mode = if executable { 0o555 } else { 0o444 };
        fs::set_permissions(path, Permissions::from_mode(mode)).sure();
        set_mtime(path, 1).sure();
    } else {
        let one = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: one,
            last_modification: one,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).sure();
    }
}

/// Returns the processes that record, zombies left out.
pub(crate) fn recorders() -> Vec<u32> {
    let entries = fs::read_dir("/proc").sure();
    let numbers = entries.filter_map(|entry| entry.sure().file_name().to_str()?.parse().ok());
    let records = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.contains(&format!("({RECORDER})")) && !stat.contains(") Z ")
    };
    numbers.filter(records).collect()
}

/// Requires that nobody records any more.
pub(crate) fn recorder_ended() {
    assert!(
        within(PATIENCE, || recorders().is_empty()),
        "the recorder did not end"
    );
}

/// What a test needs: the value, or its end.
pub(crate) trait Sure {
    type Value;
    fn sure(self) -> Self::Value;
}

impl<T, E: std::fmt::Debug> Sure for Result<T, E> {
    type Value = T;

    #[track_caller]
    fn sure(self) -> T {
        match self {
            Ok(value) => value,
            Err(why) => panic!("{why:?}"),
        }
    }
}
