// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single rows: how they are spelled, what foreign tables see of changes, what is refused and why.

use crate::place::{layout, local, name, object, raw, scratch, store_dir, upper};
use overstore::error::{Kind, Result};
use overstore::metadata::{Change, Local, Registration, Source, Upper, is_in_use};
use overstore::store::{
    Algorithm, ContentAddress, Hash, Method, ObjectName, Outputs, PathInfo, Sha256,
};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

fn register(upper: &mut Upper, batch: &[Registration]) -> Result<()> {
    upper.write(|change| change.register(batch))
}

/// Every column of every row, as text.
fn spelled(state: &std::path::Path) -> Vec<String> {
    let query = "SELECT concat_ws('|', path, hash, registrationTime, quote(deriver), quote(narSize), \
        quote(ultimate), quote(sigs), quote(ca)) FROM ValidPaths ORDER BY path";
    let database = raw(state);
    let mut query = database.prepare(query).unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

#[test]
fn rows_are_spelled_as_by_nix() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let mut full = object(1, &[]);
    full.info.deriver = Some(name(5));
    full.info.ultimate = true;
    full.info.signatures = ["b:Yg==".to_owned(), "a:YQ==".to_owned()].into();
    full.info.ca = Some(ContentAddress {
        method: Method::Nar,
        hash: Hash::of(Algorithm::Sha256, b""),
    });
    let mut bare = object(2, &[]);
    bare.info.nar_size = 0;
    register(&mut upper, &[full.clone(), bare]).unwrap();
    let hex = |number: u32| Sha256::of(&number.to_be_bytes()).hex();
    let nothing = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    let expected = [
        format!(
            "/nix/store/{}|sha256:{}|1700000000|'/nix/store/{}'|96|1|'a:YQ== b:Yg=='|'fixed:r:sha256:{nothing}'",
            name(1),
            hex(1),
            name(5)
        ),
        format!(
            "/nix/store/{}|sha256:{}|1700000000|NULL|NULL|NULL|NULL|NULL",
            name(2),
            hex(2)
        ),
    ];
    assert_eq!(spelled(scratch.path()), expected);
    assert_eq!(upper.path_info(&name(1)).unwrap(), Some(full.info));
}

/// A time of 0 asks for now, and only a new row has it.
#[test]
fn a_new_row_has_a_time() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let before = now();
    let mut timeless = object(1, &[]);
    timeless.info.registration_time = 0;
    register(&mut upper, &[timeless.clone(), object(2, &[])]).unwrap();
    let time = |upper: &Upper, number| {
        let info = upper.path_info(&name(number)).unwrap().unwrap();
        u64::try_from(info.registration_time).unwrap()
    };
    assert!((before..=now()).contains(&time(&upper, 1)));
    timeless.info.name = name(2);
    register(&mut upper, &[timeless]).unwrap();
    assert_eq!(time(&upper, 2), 1_700_000_000);
}

#[test]
fn what_holds_an_object_is_named() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let batch = [
        object(1, &[1]),
        object(2, &[1]),
        object(3, &[1]),
        object(4, &[1]),
        object(6, &[1]),
    ];
    register(&mut upper, &batch).unwrap();
    let delete = |change: &Change<'_>| change.delete(&name(1));
    let error = upper.write(delete).unwrap_err();
    assert!(is_in_use(&error) && error.kind() == Kind::Negative);
    let text = error.to_string();
    assert!(
        text.contains(name(2).as_str()) && text.contains(" and 1 others"),
        "{text}"
    );
    // Together with what refers to it, it goes.
    let gone = upper.write(|change| {
        for number in [6, 4, 3, 2] {
            assert!(change.delete(&name(number))?);
        }
        change.delete(&name(1))
    });
    assert_eq!(gone, Ok(true));
    assert_eq!(upper.write(delete), Ok(false));
}

#[test]
fn what_is_refused_changes_nothing() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let error = register(&mut upper, &[object(1, &[]), object(2, &[1, 7])]).unwrap_err();
    let text = error.to_string();
    let named = format!(
        "path '/nix/store/{}', to which it refers, is not valid",
        name(7)
    );
    assert!(
        text.contains(&named) && text.contains(name(2).as_str()),
        "{text}"
    );
    let error = register(&mut upper, &[object(1, &[2]), object(2, &[1])]).unwrap_err();
    assert!(error.to_string().contains("closes a cycle"), "{error}");
    for bad in ["", "a b:c", "plain"] {
        let mut signed = object(1, &[]);
        signed.info.signatures = [bad.to_owned()].into();
        let error = register(&mut upper, &[signed]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{bad}: {error}");
    }
    let mut huge = object(1, &[]);
    huge.info.nar_size = u64::MAX;
    assert_eq!(
        register(&mut upper, &[huge]).unwrap_err().kind(),
        Kind::Usage
    );
    let sign = upper.write(|change| change.add_signatures(&name(1), &BTreeSet::new()));
    assert_eq!(sign.unwrap_err().kind(), Kind::Negative);
    assert!(upper.all_valid().unwrap().is_empty());
    let error = upper.with_hash_part("short").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}

/// What one call did is not there if a later one fails.
#[test]
fn a_change_is_done_whole_or_not_at_all() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let failed: Result<()> = upper.write(|change| {
        change.register(&[object(1, &[])])?;
        assert!(change.is_valid(&name(1))?);
        change.register(&[object(2, &[7])])
    });
    assert!(failed.is_err());
    assert!(upper.all_valid().unwrap().is_empty());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        upper.write(|change| {
            change.register(&[object(1, &[])])?;
            panic!("in the middle of it")
        })
    }));
    let panicked: std::thread::Result<Result<()>> = panicked;
    assert!(panicked.is_err());
    assert!(upper.all_valid().unwrap().is_empty());
    register(&mut upper, &[object(1, &[])]).unwrap();
}

/// A lower whose infos are given, whole or not.
#[derive(Debug)]
struct Given(Vec<PathInfo>);

impl Source for Given {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        Ok(self.0.iter().find(|info| info.name == *name).cloned())
    }
    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        Ok(self.path_info(name)?.is_some())
    }
    fn referrers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
    fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        assert!(drv.as_str().ends_with(".drv"), "{drv} has no outputs");
        Ok([("out".to_owned(), name(9))].into())
    }
    fn with_hash_part(&self, _: &str) -> Result<Option<ObjectName>> {
        Ok(None)
    }
    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
}

#[test]
fn a_closure_is_copied_whole_or_not_at_all() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    let infos = |batch: &[Registration]| batch.iter().map(|one| one.info.clone()).collect();
    let broken = Given(infos(&[
        object(1, &[2]),
        object(2, &[3, 4]),
        object(3, &[]),
    ]));
    let error = upper
        .write(|change| change.copy_up(&[name(1)], &broken))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(name(2).as_str()) && text.contains(name(4).as_str()),
        "{text}"
    );
    let round = Given(infos(&[object(1, &[2]), object(2, &[1])]));
    let error = upper
        .write(|change| change.copy_up(&[name(1)], &round))
        .unwrap_err();
    assert!(error.to_string().contains("closes a cycle"), "{error}");
    let error = upper
        .write(|change| change.copy_up(&[name(7)], &broken))
        .unwrap_err();
    assert!(error.to_string().contains("valid neither"), "{error}");
    assert!(upper.all_valid().unwrap().is_empty());

    let whole = Given(infos(&[object(5, &[3]), object(3, &[]), object(4, &[])]));
    let batch = [object(1, &[5]), object(4, &[])];
    upper
        .write(|change| change.register_merging(&batch, &whole))
        .unwrap();
    assert_eq!(upper.all_valid().unwrap(), [1, 3, 4, 5].map(name).into());
    assert_eq!(upper.outputs(&name(5)).unwrap()["out"], name(9));
    assert_eq!(upper.valid_derivers(&name(9)).unwrap(), [name(5)].into());
}

/// As deep as no closure is: no stack is used up, and nothing is asked twice for long.
#[test]
fn a_deep_closure_is_copied() {
    let (scratch, below) = (scratch(), scratch());
    let mut lower = upper(below.path());
    let chain: Vec<_> = (0..5000)
        .map(|n| object(10 * n + 1, &[10 * n + 11]))
        .collect();
    register(&mut lower, &[object(50_001, &[])]).unwrap();
    register(&mut lower, &chain).unwrap();
    let mut upper = upper(scratch.path());
    let copied = upper.write(|change| change.copy_up(&[name(1)], &lower));
    assert_eq!(copied, Ok(5001));
}

/// Tables of content-addressed derivations, of both families; foreign keys act on them.
const REALISED: &str = "
CREATE TABLE Realisations (id integer primary key autoincrement not null, drvPath text not null,
    outputName text not null, outputPath integer not null, signatures text,
    foreign key (outputPath) references ValidPaths(id) on delete cascade);
CREATE TABLE BuildTraceV3 (id integer primary key autoincrement not null, drvPath text not null,
    outputName text not null, outputPath text not null, signatures text);
INSERT INTO Realisations (drvPath, outputName, outputPath, signatures)
    SELECT 'sha256:00', 'out', id, 'a:YQ==' FROM ValidPaths;
INSERT INTO BuildTraceV3 (drvPath, outputName, outputPath) SELECT 'x.drv', 'out', path FROM ValidPaths;
CREATE TABLE Foreign_ (path integer references ValidPaths(id) on delete restrict);";

#[test]
fn realisations_are_read_where_there_are_tables() {
    let scratch = scratch();
    let mut upper = upper(scratch.path());
    register(&mut upper, &[object(1, &[])]).unwrap();
    assert_eq!(upper.realisation("sha256:00", "out"), Ok(None));
    raw(scratch.path()).execute_batch(REALISED).unwrap();
    let old = upper.realisation("sha256:00", "out").unwrap().unwrap();
    assert_eq!(
        (old.output, old.signatures),
        (name(1), ["a:YQ==".to_owned()].into())
    );
    let new = upper.realisation("x.drv", "out").unwrap().unwrap();
    assert_eq!((new.output, new.signatures), (name(1), BTreeSet::new()));
    assert_eq!(upper.realisation("x.drv", "dev"), Ok(None));
    let database = raw(scratch.path());
    database
        .execute_batch("INSERT INTO Foreign_ SELECT id FROM ValidPaths")
        .unwrap();
    let held = upper.write(|change| change.delete(&name(1))).unwrap_err();
    assert!(held.to_string().contains("FOREIGN KEY"), "{held}");
    database.execute_batch("DELETE FROM Foreign_").unwrap();
    assert_eq!(upper.write(|change| change.delete(&name(1))), Ok(true));
    assert_eq!(upper.realisation("sha256:00", "out"), Ok(None));
    let left: i64 = database
        .query_row("SELECT count(*) FROM BuildTraceV3", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1, "what no foreign key removes stays");
}

#[test]
fn layouts_that_cannot_be_written_say_so() {
    let scratch = scratch();
    let mut read_only = layout(scratch.path());
    read_only.read_only = true;
    let error = Upper::open(&read_only).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        error.to_string().ends_with("leave read-only out of it"),
        "{error}"
    );
    let mut stateless = layout(scratch.path());
    stateless.state = None;
    assert_eq!(Upper::open(&stateless).unwrap_err().kind(), Kind::Usage);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    assert!(Local::open(scratch.path(), &store_dir()).unwrap().is_none());
}

/// As Nix does: a database that keeps another log is given a write-ahead log.
#[test]
fn the_log_is_a_write_ahead_log() {
    let scratch = scratch();
    drop(upper(scratch.path()));
    raw(scratch.path())
        .execute_batch("PRAGMA journal_mode = truncate")
        .unwrap();
    let mode = || -> String {
        let mode = raw(scratch.path()).query_row("PRAGMA journal_mode", [], |row| row.get(0));
        mode.unwrap()
    };
    assert_ne!(mode(), "wal");
    let mut upper = upper(scratch.path());
    assert_eq!(mode(), "wal");
    register(&mut upper, &[object(1, &[])]).unwrap();
    drop(upper);
    assert!(local(scratch.path()).is_valid(&name(1)).unwrap());
}

/// A process would lose its locks with what it closes, and lock its own writer out.
#[test]
fn no_process_reads_beside_its_own_writer() {
    let scratch = scratch();
    let state = scratch.path();
    let writer = upper(state);
    let again = upper(state);
    let error = Local::open(state, &store_dir()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("open for writing in this process; ask that"),
        "{error}"
    );
    drop((writer, again));
    let reader = local(state);
    let again = local(state);
    let error = Upper::open(&layout(state)).unwrap_err();
    assert!(error.to_string().ends_with("close that first"), "{error}");
    drop((reader, again));
    register(&mut upper(state), &[object(1, &[])]).unwrap();
}
