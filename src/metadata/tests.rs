// SPDX-License-Identifier: MIT OR Apache-2.0
//! States in scratch directories: made, found, refused, shared.
use super::*;
use crate::error::Kind;
use crate::layout::{LowerStore, Settings};
use crate::wait::nap;
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;

/// A file that tells the test below that it is to prepare its working directory.
const MARKER: &str = "prepare-here";

pub(super) struct Scratch(TempDir);

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch(TempDir::new().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("nix/var/nix")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    pub(super) fn layout(&self) -> Layout {
        layout(Some(self.state()))
    }

    fn prepare(&self) -> Result<Prepared> {
        prepare_state(&self.layout())
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn schema(&self, text: &str) {
        fs::create_dir_all(self.path("db")).unwrap();
        fs::write(self.path("db/schema"), text).unwrap();
    }

    pub(super) fn database(&self) -> Connection {
        Connection::open(self.path("db/db.sqlite")).unwrap()
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let database = self.database();
        let query = "SELECT name FROM sqlite_schema WHERE type = ?1 AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut statement = database.prepare(query).unwrap();
        let names = statement.query_map([kind], |row| row.get(0)).unwrap();
        names.map(|name| name.unwrap()).collect()
    }

    /// Starts a process that prepares this state under `umask`.
    fn spawn(&self, umask: &str) -> Child {
        fs::write(self.0.path().join(MARKER), "").unwrap();
        let program = std::env::current_exe().unwrap();
        Command::new("sh")
            .args([
                "-c",
                "umask $1; exec \"$2\" --exact metadata::tests::prepares_where_it_is_started",
                "sh",
                umask,
            ])
            .arg(program)
            .current_dir(self.0.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }
}

fn layout(state: Option<PathBuf>) -> Layout {
    Layout {
        lower: PathBuf::from("/l"),
        lower_store: LowerStore::Directory,
        upper: PathBuf::from("/u"),
        work: None,
        merged: PathBuf::from("/m"),
        store_dir: PathBuf::from("/nix/store"),
        state,
        check_mount: true,
        read_only: false,
        settings: Settings::default(),
    }
}

/// Not a test by itself: [`Scratch::spawn`] runs it for a process of its own.
#[test]
fn prepares_where_it_is_started() {
    let here = std::env::current_dir().unwrap();
    if fs::symlink_metadata(here.join(MARKER)).is_ok() {
        prepare_state(&layout(Some(here.join("nix/var/nix")))).unwrap();
    }
}

fn assert_modes(scratch: &Scratch) {
    for name in [
        "",
        "db",
        "gcroots",
        "gcroots/per-user",
        "profiles",
        "profiles/per-user",
        "temproots",
    ] {
        assert_eq!(scratch.mode(name), 0o755, "{name}");
    }
    assert_eq!(
        fs::metadata(scratch.0.path().join("nix")).unwrap().mode() & 0o777,
        0o755
    );
    for (name, mode) in [
        ("db.sqlite", 0o644),
        ("db.sqlite-wal", 0o644),
        ("db.sqlite-shm", 0o644),
        ("schema", 0o644),
        ("big-lock", 0o600),
        ("reserved", 0o600),
    ] {
        assert_eq!(scratch.mode(&format!("db/{name}")), mode, "{name}");
    }
}

#[test]
fn makes_what_nix_makes() {
    let scratch = Scratch::new();
    assert_eq!(scratch.prepare(), Ok(Prepared::Created));
    assert_modes(&scratch);
    assert_eq!(fs::read(scratch.path("db/schema")).unwrap(), b"10");
    assert_eq!(
        fs::metadata(scratch.path("db/reserved")).unwrap().len(),
        8 << 20
    );
    assert_eq!(
        fs::read_link(scratch.path("gcroots/profiles")).unwrap(),
        scratch.path("profiles")
    );
    assert_eq!(
        scratch.names("table"),
        [
            "DerivationOutputs",
            "Refs",
            "SchemaMigrations",
            "ValidPaths"
        ]
    );
    assert_eq!(
        scratch.names("index"),
        ["IndexDerivationOutputs", "IndexReference"]
    );
    assert_eq!(scratch.names("trigger"), ["DeleteSelfRefs"]);
}

#[test]
fn nothing_temporary_is_left() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    let entries = fs::read_dir(scratch.path("db")).unwrap();
    let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        [
            "big-lock",
            "db.sqlite",
            "db.sqlite-shm",
            "db.sqlite-wal",
            "reserved",
            "schema"
        ]
    );
}

#[test]
fn the_umask_changes_nothing() {
    let scratch = Scratch::new();
    assert!(scratch.spawn("077").wait().unwrap().success());
    assert_modes(&scratch);
}

/// Name, type, must not be null, place in the primary key.
type Column<'a> = (&'a str, &'a str, bool, i64);

const COLUMNS: [(&str, &[Column<'static>]); 4] = [
    (
        "ValidPaths",
        &[
            ("id", "INTEGER", true, 1),
            ("path", "TEXT", true, 0),
            ("hash", "TEXT", true, 0),
            ("registrationTime", "INTEGER", true, 0),
            ("deriver", "TEXT", false, 0),
            ("narSize", "INTEGER", false, 0),
            ("ultimate", "INTEGER", false, 0),
            ("sigs", "TEXT", false, 0),
            ("ca", "TEXT", false, 0),
        ],
    ),
    (
        "Refs",
        &[
            ("referrer", "INTEGER", true, 1),
            ("reference", "INTEGER", true, 2),
        ],
    ),
    (
        "DerivationOutputs",
        &[
            ("drv", "INTEGER", true, 1),
            ("id", "TEXT", true, 2),
            ("path", "TEXT", true, 0),
        ],
    ),
    ("SchemaMigrations", &[("migration", "TEXT", true, 1)]),
];

#[test]
fn the_tables_have_the_columns_of_schema_10() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    let database = scratch.database();
    for (table, expected) in COLUMNS {
        let query = "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)";
        let mut statement = database.prepare(query).unwrap();
        let mut rows = statement.query([table]).unwrap();
        for column in expected {
            let row = rows.next().unwrap().expect(table);
            let (name, kind): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
            let found = (
                name.as_str(),
                kind.as_str(),
                row.get(2).unwrap(),
                row.get(3).unwrap(),
            );
            assert_eq!(found, *column, "{table}");
        }
        assert!(rows.next().unwrap().is_none(), "{table}");
    }
    let mode: String = database
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn rows_go_as_nix_expects() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    let database = scratch.database();
    database.execute_batch(
        "PRAGMA foreign_keys = 1;
         INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('/nix/store/a', 'h', 1), ('/nix/store/b', 'h', 1);
         INSERT INTO Refs VALUES (1, 1), (1, 2);
         INSERT INTO DerivationOutputs VALUES (1, 'out', '/nix/store/c');",
    ).unwrap();
    assert!(
        database
            .execute("DELETE FROM ValidPaths WHERE path = '/nix/store/b'", [])
            .is_err()
    );
    assert_eq!(
        database.execute("DELETE FROM ValidPaths WHERE path = '/nix/store/a'", []),
        Ok(1)
    );
    let left: i64 = database
        .query_row(
            "SELECT (SELECT count(*) FROM Refs) + (SELECT count(*) FROM DerivationOutputs)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
    assert!(
        database
            .execute("INSERT INTO Refs VALUES (2, 7)", [])
            .is_err()
    );
    assert_eq!(database.execute("DELETE FROM ValidPaths", []), Ok(1));
}

#[test]
fn connections_have_nix_settings() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    let database =
        Database::create(&scratch.state(), &Terms::new(PATIENCE, &Interrupt::never())).unwrap();
    let table = [
        ("foreign_keys", 1),
        ("synchronous", 1),
        ("journal_size_limit", 1 << 40),
        ("wal_autocheckpoint", 40000),
    ];
    for (name, expected) in table {
        assert_eq!(database.pragma(name), expected, "{name}");
    }
}

#[test]
fn a_second_time_changes_nothing() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    scratch
        .database()
        .execute_batch(
            "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('/nix/store/a', 'h', 1);
         CREATE TABLE BuildTraceV3 (id INTEGER); INSERT INTO BuildTraceV3 VALUES (7);",
        )
        .unwrap();
    fs::write(scratch.path("db/reserved"), "").unwrap();
    fs::remove_file(scratch.path("gcroots/profiles")).unwrap();
    fs::set_permissions(
        scratch.path("gcroots/per-user"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(scratch.prepare(), Ok(Prepared::Present));
    assert_eq!(scratch.mode("db/db.sqlite-wal"), 0o644);
    assert_eq!(
        fs::metadata(scratch.path("db/db.sqlite-wal"))
            .unwrap()
            .len(),
        0
    );
    let rows: (i64, i64) = scratch
        .database()
        .query_row(
            "SELECT (SELECT count(*) FROM ValidPaths), (SELECT sum(id) FROM BuildTraceV3)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(rows, (1, 7));
    assert_eq!(fs::metadata(scratch.path("db/reserved")).unwrap().len(), 0);
    assert!(fs::symlink_metadata(scratch.path("gcroots/profiles")).is_err());
    assert_eq!(scratch.mode("gcroots/per-user"), 0o755);
}

#[test]
fn an_interrupted_creation_is_completed() {
    let scratch = Scratch::new();
    scratch.schema("0");
    scratch
        .database()
        .execute_batch("CREATE TABLE Foreigner (x); CREATE INDEX IndexReferrer ON Foreigner (x)")
        .unwrap();
    assert_eq!(scratch.prepare(), Ok(Prepared::Created));
    assert!(scratch.names("table").contains(&"Foreigner".to_owned()));
    assert_eq!(fs::read(scratch.path("db/schema")).unwrap(), b"10");
    let noted: i64 = scratch
        .database()
        .query_row("SELECT count(*) FROM SchemaMigrations", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(noted, 0, "the index is there, so it was not dropped");
}

#[test]
fn other_versions_are_refused() {
    let table = [
        (
            "11",
            Kind::Environment,
            "it has schema 11, and only schema 10 is supported; use a newer overstore",
        ),
        (
            "9\n",
            Kind::Environment,
            "it has schema 9, and only schema 10 is supported; open the store once with a current Nix, which upgrades it",
        ),
        (
            "ten",
            Kind::Corrupt,
            "it holds no number; if db.sqlite beside it is sound, write 10 into it",
        ),
        (
            "",
            Kind::Corrupt,
            "it is empty; if db.sqlite beside it is sound, write 10 into it",
        ),
        (
            "10",
            Kind::Corrupt,
            "db/schema says it exists, but it does not; restore it from a backup",
        ),
    ];
    for (text, kind, why) in table {
        let scratch = Scratch::new();
        scratch.schema(text);
        let error = scratch.prepare().unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(error.to_string().ends_with(why), "{error}");
        assert!(fs::symlink_metadata(scratch.path("db/db.sqlite")).is_err());
    }
}

#[test]
fn broken_databases_are_corrupt() {
    let scratch = Scratch::new();
    scratch.schema("10");
    fs::write(scratch.path("db/db.sqlite"), "x".repeat(4096)).unwrap();
    assert_eq!(scratch.prepare().unwrap_err().kind(), Kind::Corrupt);
    fs::remove_file(scratch.path("db/db.sqlite")).unwrap();
    scratch
        .database()
        .execute_batch("CREATE TABLE Foreigner (x)")
        .unwrap();
    let error = scratch.prepare().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("the table ValidPaths is missing"),
        "{error}"
    );
    assert_eq!(scratch.names("table"), ["Foreigner"]);
}

#[test]
fn layouts_without_writes_create_nothing() {
    let scratch = Scratch::new();
    assert_eq!(prepare_state(&layout(None)), Ok(Prepared::NotKept));
    let mut read_only = scratch.layout();
    read_only.read_only = true;
    assert_eq!(prepare_state(&read_only), Ok(Prepared::ReadOnly));
    assert_eq!(fs::read_dir(scratch.0.path()).unwrap().count(), 0);
    scratch.schema("11");
    assert_eq!(
        prepare_state(&read_only).unwrap_err().kind(),
        Kind::Environment
    );
}

#[test]
fn a_state_that_cannot_be_made_is_one_clear_line() {
    let scratch = Scratch::new();
    fs::write(scratch.0.path().join("nix"), "a file").unwrap();
    let error = scratch.prepare().unwrap_err();
    assert_eq!(error.kind(), Kind::Environment);
    let text = error.to_string();
    assert!(text.starts_with("create state directory "), "{text}");
    assert!(
        text.ends_with("; run as its owner, or add state=/DIR to the store URL"),
        "{text}"
    );
}

#[test]
fn many_creators_agree() {
    let scratch = Scratch::new();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let layout = scratch.layout();
            std::thread::spawn(move || prepare_state(&layout))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(scratch.prepare(), Ok(Prepared::Present));
    let scratch = Scratch::new();
    let children: Vec<_> = (0..8).map(|_| scratch.spawn("022")).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(scratch.prepare(), Ok(Prepared::Present));
    assert_modes(&scratch);
}

#[test]
fn an_upgrade_is_waited_for() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    let upgrade = fs::File::open(scratch.path("db/big-lock")).unwrap();
    rustix::fs::flock(&upgrade, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let layout = scratch.layout();
    let waiter = std::thread::spawn(move || prepare_state(&layout));
    nap(Duration::from_millis(100));
    assert!(!waiter.is_finished());
    fs::write(scratch.path("db/schema"), "11").unwrap();
    drop(upgrade);
    assert_eq!(
        waiter.join().unwrap().unwrap_err().kind(),
        Kind::Environment
    );
}

/// Prepares `layout` without root's privileges over files. Only this thread changes.
fn prepare_as_nobody(layout: Layout) -> Result<Prepared> {
    let thread = std::thread::spawn(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        prepare_state(&layout)
    });
    thread.join().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_state_that_may_not_be_written_is_used_as_it_is() {
    let scratch = Scratch::new();
    scratch.prepare().unwrap();
    // Root is kept out by ownership; an ordinary user, who owns it all, by mode.
    set_mode(scratch.0.path(), 0o755);
    set_mode(&scratch.path("db"), 0o555);
    assert_eq!(prepare_as_nobody(scratch.layout()), Ok(Prepared::ReadOnly));
    set_mode(&scratch.path("db/db.sqlite"), 0o000);
    let error = prepare_as_nobody(scratch.layout()).unwrap_err().to_string();
    assert!(
        error.ends_with("it may not be read; run as its owner"),
        "{error}"
    );
    set_mode(&scratch.path("db"), 0o755);
}

#[test]
fn a_state_that_may_not_be_made_is_one_clear_line() {
    let scratch = Scratch::new();
    set_mode(scratch.0.path(), 0o555);
    let error = prepare_as_nobody(scratch.layout()).unwrap_err().to_string();
    assert!(error.starts_with("create state directory "), "{error}");
    assert!(error.contains("nix: Permission denied"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
