// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lower stores of every kind: opened, asked, left as they were.
use super::super::open_union;
use super::*;
use crate::layout::{LayoutEnv, Probe};
use crate::metadata::prepare_state;
use crate::store::Sha256;
use crate::store::percent::encode_query_value;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use tempfile::TempDir;

/// Several stores, each with a root of its own.
struct Stores(TempDir);

impl Stores {
    fn new() -> Stores {
        Stores(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn value(&self, name: &str) -> String {
        encode_query_value(self.path(name).as_os_str().as_bytes())
    }

    fn layout(&self, url: &str) -> Layout {
        let env = LayoutEnv::new([], self.path(""), true, Probe::host());
        Layout::from_url(url, &env).unwrap().0
    }

    /// The URL of an overlay store over the store of the URL `lower`.
    fn over(&self, name: &str, lower: &str) -> String {
        let (root, upper) = (self.value(name), self.value(&format!("{name}-upper")));
        let lower = encode_query_value(lower.as_bytes());
        format!("local-overlay://?root={root}&upper-layer={upper}&lower-store={lower}")
    }

    /// Makes the database of the store `name`, with these objects.
    fn database(&self, name: &str, objects: &[&str]) -> Connection {
        let layout = self.layout(&self.over(name, "/nowhere"));
        prepare_state(&layout).unwrap();
        let database = Connection::open(self.path(name).join("nix/var/nix/db/db.sqlite")).unwrap();
        for object in objects {
            insert(&database, object);
        }
        database
    }

    /// Everything about the files of the store `name` but access times.
    fn manifest(&self, name: &str) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        describe(&self.path(name), &mut found);
        found
    }
}

fn describe(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let stat = fs::symlink_metadata(path).unwrap();
    let times = (
        stat.mtime(),
        stat.mtime_nsec(),
        stat.ctime(),
        stat.ctime_nsec(),
    );
    // SQLite gives a log, on opening it as root, the owner that it has.
    let times = match path.as_os_str().as_bytes().ends_with(b"-wal") {
        true => (times.0, times.1, 0, 0),
        false => times,
    };
    let mut text = format!("{} {:o} {} {times:?}", stat.ino(), stat.mode(), stat.size());
    if stat.is_file() {
        text += &Sha256::of(&fs::read(path).unwrap()).to_string();
    }
    found.insert(path.to_owned(), text);
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            describe(&entry.unwrap().path(), found);
        }
    }
}

fn object(name: &str) -> ObjectName {
    let digit = name.len() % 10;
    let hash = digit.to_string().repeat(32);
    ObjectName::parse(format!("{hash}-{name}").as_bytes()).unwrap()
}

fn insert(database: &Connection, name: &str) {
    let hash = Sha256::of(name.as_bytes()).hex();
    let path = format!("/nix/store/{}", object(name));
    let row = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES (?1, ?2, 7)";
    let values = [path, format!("sha256:{hash}")];
    assert_eq!(database.execute(row, values).unwrap(), 1);
}

fn names(names: &[&str]) -> BTreeSet<ObjectName> {
    names.iter().map(|name| object(name)).collect()
}

/// Three overlay stores, one on the other, over a local store.
#[test]
fn nested_stores_are_one() {
    let stores = Stores::new();
    let databases = [
        stores.database("low", &["l", "all"]),
        stores.database("one", &["one", "all"]),
        stores.database("two", &["second"]),
        stores.database("three", &["three", "all"]),
    ];
    drop(databases);
    let mut url = stores.path("low").display().to_string();
    for name in ["one", "two", "three"] {
        url = stores.over(name, &url);
    }
    let before = stores.manifest("");
    let union = open_union(&stores.layout(&url)).unwrap();
    let all = names(&["l", "all", "one", "second", "three"]);
    assert_eq!(union.all_valid(), Ok(all.clone()));
    assert_eq!(
        union.upper().unwrap().all_valid(),
        Ok(names(&["three", "all"]))
    );
    for name in &all {
        assert_eq!(union.is_valid(name), Ok(true), "{name}");
        let info = union.path_info(name).unwrap().unwrap();
        assert_eq!(info.registration_time, 7);
        assert!(union.with_hash_part(name.hash_part()).unwrap().is_some());
    }
    assert_eq!(union.is_valid(&object("nobodys")), Ok(false));
    assert_eq!(union.finish(), Ok(()));
    drop(union);
    assert_eq!(stores.manifest(""), before);
}

/// Wherever in the nest a database is broken, the whole has no answer.
#[test]
fn a_broken_part_is_an_error_for_the_whole() {
    for broken in ["low", "one", "two"] {
        let stores = Stores::new();
        for name in ["low", "one", "two"] {
            drop(stores.database(name, &["x"]));
        }
        let url = stores.over(
            "two",
            &stores.over("one", &stores.path("low").display().to_string()),
        );
        let layout = stores.layout(&url);
        assert!(open_union(&layout).is_ok());
        fs::write(stores.path(broken).join("nix/var/nix/db/schema"), "11").unwrap();
        let error = open_union(&layout).unwrap_err().to_string();
        assert!(
            error.contains("schema 11") && error.contains(broken),
            "{error}"
        );
    }
}

/// Without a database nothing is valid, and none is made.
#[test]
fn stores_without_a_database_have_no_objects() {
    let stores = Stores::new();
    let url = stores.over(
        "two",
        &stores.over("one", &stores.path("low").display().to_string()),
    );
    let layout = stores.layout(&url);
    let before = stores.manifest("");
    let union = open_union(&layout).unwrap();
    assert!(union.upper().is_none() && union.lower().is_some());
    assert_eq!(union.all_valid(), Ok(BTreeSet::new()));
    assert_eq!(union.path_info(&object("x")), Ok(None));
    assert_eq!(stores.manifest(""), before);
    let mut gaps = Vec::new();
    let found = open_possible(&layout, Patience::short(), &mut |gap| {
        gaps.push(format!("{gap:?}"))
    });
    assert!(found.unwrap().is_some());
    assert!(
        gaps.len() == 1 && gaps[0].starts_with("NoDatabase") && gaps[0].contains("low"),
        "{gaps:?}"
    );
}

/// Where there are objects nobody knows whether they are valid: that is never "no".
#[test]
fn objects_without_a_database_are_unknown() {
    let stores = Stores::new();
    let url = stores.over("one", &stores.path("low").display().to_string());
    let layout = stores.layout(&url);
    let directory = stores.path("low/nix/store");
    fs::create_dir_all(directory.join(".links")).unwrap();
    for live in [false, true] {
        let opened = match live {
            true => open_live(&layout, &Interrupt::never()),
            false => open(&layout),
        };
        let source = opened.unwrap().unwrap();
        let (there, absent) = (object("there"), object("ab"));
        assert_eq!(source.all_valid(), Ok(BTreeSet::new()));
        assert_eq!(source.is_valid(&there), Ok(false));
        fs::write(directory.join(there.as_str()), "").unwrap();
        assert_eq!(source.is_valid(&absent), Ok(false));
        assert_eq!(source.path_info(&absent), Ok(None));
        assert_eq!(source.outputs(&absent), Ok(Outputs::new()));
        let errors = [
            source.is_valid(&there).unwrap_err(),
            source.path_info(&there).unwrap_err(),
            source.outputs(&there).unwrap_err(),
            source.all_valid().unwrap_err(),
            source.referrers(&absent).unwrap_err(),
            source.valid_derivers(&absent).unwrap_err(),
            source.with_hash_part(absent.hash_part()).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(
                text.contains("low/nix/var/nix: it has no database")
                    && text.contains(there.as_str())
                    && text.contains("; name its state directory"),
                "{text}"
            );
            assert_eq!(error.kind().exit_code(), 3);
        }
        fs::remove_file(directory.join(there.as_str())).unwrap();
    }
    assert!(!stores.path("low/nix/var").try_exists().unwrap());
}

/// Where nobody may make one, as Nix has it, it is missed: the disk that it lies on is not mounted.
#[test]
fn a_read_only_store_without_a_database_is_an_error() {
    let stores = Stores::new();
    let url = stores.over(
        "one",
        &format!("{}?read-only=true", stores.path("low").display()),
    );
    let layout = stores.layout(&url);
    let error = open(&layout).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("low") && error.contains("no database"),
        "{error}"
    );
    let mut gaps = 0;
    let found = open_possible(&layout, Patience::short(), &mut |gap| {
        gaps += usize::from(matches!(gap, Gap::Unreadable(..)));
    });
    assert!(found.unwrap().is_some() && gaps == 1);
}

/// A database that lost its `db/schema` is read as before; one without tables is one being made.
#[test]
fn rows_without_a_schema_file_stay_valid() {
    let stores = Stores::new();
    drop(stores.database("low", &["first"]));
    let url = stores.over("one", &stores.path("low").display().to_string());
    let layout = stores.layout(&url);
    let LowerStore::Local { state, .. } = &layout.lower_store else {
        panic!("a local store")
    };
    std::fs::remove_file(state.join("db/schema")).unwrap();
    let valid = || open(&layout).unwrap().unwrap().all_valid();
    assert_eq!(valid(), Ok(names(&["first"])));
    for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        drop(std::fs::remove_file(state.join("db").join(name)));
    }
    std::fs::write(state.join("db/db.sqlite"), "").unwrap();
    assert_eq!(valid(), Ok(names(&[])));
}

/// What is written meanwhile is seen by whoever opens anew, and changes no answer before.
#[test]
fn a_live_lower_is_read_beside_its_writer() {
    for spelled in ["", "?read-only=true"] {
        let stores = Stores::new();
        let writer = stores.database("low", &["first"]);
        let url = stores.over("one", &format!("{}{spelled}", stores.path("low").display()));
        let layout = stores.layout(&url);
        let lower = open(&layout).unwrap().unwrap();
        assert_eq!(lower.all_valid(), Ok(names(&["first"])));
        insert(&writer, "later");
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        insert(&writer, "uncommitted");
        assert_eq!(lower.all_valid(), Ok(names(&["first"])));
        assert_eq!(lower.finish(), Ok(()));
        let before = stores.manifest("low");
        let lower = open(&layout).unwrap().unwrap();
        assert_eq!(lower.all_valid(), Ok(names(&["first", "later"])));
        drop(lower);
        assert_eq!(stores.manifest("low"), before);
    }
}

/// A database that was read without a log, because there was none, and then got one.
#[test]
fn a_log_that_was_begun_meanwhile_is_noticed() {
    let stores = Stores::new();
    drop(stores.database("low", &["first"]));
    let db = stores.path("low").join("nix/var/nix/db");
    for name in ["db.sqlite-wal", "db.sqlite-shm"] {
        drop(fs::remove_file(db.join(name)));
    }
    let url = stores.over("one", &stores.path("low").display().to_string());
    let nested = stores.over("two", &url);
    let union = open_union(&stores.layout(&nested)).unwrap();
    assert_eq!(union.all_valid(), Ok(names(&["first"])));
    assert_eq!(union.finish(), Ok(()));
    let writer = Connection::open(db.join("db.sqlite")).unwrap();
    insert(&writer, "later");
    let error = union.finish().unwrap_err().to_string();
    assert!(error.contains("opened for writing meanwhile"), "{error}");
}

#[test]
fn stores_with_other_store_paths_are_refused() {
    let stores = Stores::new();
    drop(stores.database("low", &["x"]));
    let inner = format!("{}&store=/other/store", stores.over("one", "/nowhere"));
    let error = open(&stores.layout(&stores.over("two", &inner)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/other/store") && error.contains("store="),
        "{error}"
    );
    // A local store's own rows tell.
    let outer = stores.over("two", &stores.path("low").display().to_string());
    let layout = stores.layout(&format!("{outer}&store=/other/store"));
    let error = open(&layout)
        .unwrap()
        .unwrap()
        .all_valid()
        .unwrap_err()
        .to_string();
    assert!(error.contains("/other/store"), "{error}");
}

/// A daemon that is away does not keep the upper from answering.
#[test]
fn a_daemon_is_asked_only_for_what_the_upper_lacks() {
    let stores = Stores::new();
    drop(stores.database("one", &["here"]));
    let daemon = format!("unix://{}", stores.path("socket").display());
    let layout = stores.layout(&stores.over("one", &daemon));
    let union = open_union(&layout).unwrap();
    assert_eq!(union.is_valid(&object("here")), Ok(true));
    assert!(union.path_info(&object("here")).unwrap().is_some());
    let error = union
        .is_valid(&object("elsewhere"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is nix-daemon running?"), "{error}");
    let mut gaps = Vec::new();
    let found = open_possible(&layout, Patience::short(), &mut |gap| {
        gaps.push(format!("{gap:?}"))
    });
    assert!(found.unwrap().is_none());
    assert!(
        gaps.len() == 1 && gaps[0].starts_with("Unreachable"),
        "{gaps:?}"
    );
    let directory = Layout {
        lower_store: LowerStore::Directory,
        ..layout
    };
    assert!(open(&directory).unwrap().is_none());
}

/// A state directory that is forbidden to this user; root is forbidden nothing.
#[test]
fn a_lower_that_may_not_be_read_is_an_error() {
    let stores = Stores::new();
    drop(stores.database("low", &["x"]));
    let db = stores.path("low").join("nix/var/nix/db");
    fs::set_permissions(&db, fs::Permissions::from_mode(0o000)).unwrap();
    let url = stores.over("one", &stores.path("low").display().to_string());
    let opened = open(&stores.layout(&url));
    fs::set_permissions(&db, fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(opened.unwrap().unwrap().is_valid(&object("x")).unwrap());
    } else {
        let error = opened.unwrap_err().to_string();
        assert!(
            error.contains("Permission denied") && error.contains("run as its owner"),
            "{error}"
        );
    }
}
