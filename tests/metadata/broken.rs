// SPDX-License-Identifier: MIT OR Apache-2.0
//! Databases that are broken: an error that says where and what to do, and never "not valid".

use crate::place::{layout, local, name, object, raw, scratch, store_dir, upper};
use overstore::error::{Error, Kind, Result};
use overstore::metadata::{Local, Source, Upper};
use std::fs::OpenOptions;
use std::path::Path;

/// A database with 2 that refers to 1, and the derivation 5 with an output.
fn prepare(state: &Path) {
    let mut drv = object(5, &[]);
    drv.outputs.insert("out".to_owned(), name(6));
    let batch = [object(1, &[]), object(2, &[1]), drv];
    upper(state)
        .write(|change| change.register(&batch))
        .unwrap();
}

#[track_caller]
fn corrupt<T: std::fmt::Debug>(result: Result<T>, state: &Path, words: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let text = error.to_string();
    let file = state.join("db/db.sqlite");
    for word in words.iter().copied().chain([file.to_str().unwrap(), "; "]) {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

#[test]
fn bad_values_are_told_with_their_column() {
    let table = [
        ("hash = 'sha256:zz'", "column hash: 'sha256:zz' is no hash"),
        (
            "hash = 'sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs'",
            "is not SHA-256",
        ),
        ("hash = x'00'", "column hash: it is no text but Blob"),
        ("narSize = -1", "column narSize: -1 is no size"),
        ("narSize = 'much'", "column narSize: it is no number"),
        ("registrationTime = 'soon'", "column registrationTime"),
        (
            "deriver = '/other/store/x'",
            "column deriver: '/other/store/x' is no store path",
        ),
        ("deriver = ''", "column deriver"),
        ("ultimate = 'yes'", "column ultimate"),
        ("sigs = 'plain'", "column sigs: 'plain' is no signature"),
        ("sigs = CAST(x'ff' AS TEXT)", "column sigs: it is not UTF-8"),
        (
            "ca = 'nar:sha256:00'",
            "column ca: 'nar:sha256:00' is no content address",
        ),
    ];
    for (set, why) in table {
        let scratch = scratch();
        let state = scratch.path();
        prepare(state);
        let update = format!("UPDATE ValidPaths SET {set} WHERE id = 1");
        raw(state).execute_batch(&update).unwrap();
        let path = format!("/nix/store/{}", name(1));
        let check = |source: &dyn Source| {
            corrupt(source.path_info(&name(1)), state, &[why, &path, "restore"]);
            assert_eq!(source.is_valid(&name(1)), Ok(true));
            assert!(source.path_info(&name(2)).unwrap().is_some());
        };
        check(&upper(state));
        let local = local(state);
        check(&local);
        let below = crate::place::scratch();
        let mut above = crate::place::upper(below.path());
        let copied = above.write(|change| change.copy_up(&[name(2)], &local));
        corrupt(copied, state, &[why]);
        assert!(above.all_valid().unwrap().is_empty());
    }
}

#[test]
fn bad_paths_are_told() {
    let table = ["/nix/store/short", "/other/x", "", "/nix/store/"];
    for path in table {
        let scratch = scratch();
        let state = scratch.path();
        prepare(state);
        let update = format!("UPDATE ValidPaths SET path = '{path}' WHERE id = 1");
        raw(state).execute_batch(&update).unwrap();
        let local = local(state);
        let why = ["column ValidPaths.path", path, "restore"];
        corrupt(local.all_valid(), state, &why);
        corrupt(
            local.path_info(&name(2)),
            state,
            &["column Refs.reference", path],
        );
    }
    let scratch = scratch();
    let state = scratch.path();
    prepare(state);
    let statements =
        "UPDATE ValidPaths SET path = 'x' WHERE id = 2; UPDATE DerivationOutputs SET path = 'y'";
    raw(state).execute_batch(statements).unwrap();
    let local = local(state);
    corrupt(
        local.referrers(&name(1)),
        state,
        &["column Refs.referrer", "'x'"],
    );
    corrupt(
        local.outputs(&name(5)),
        state,
        &["column DerivationOutputs.path", "'y'"],
    );
    drop(local);
    let glued = format!(
        "UPDATE ValidPaths SET path = '/nix/store/{:032}x' WHERE id = 2",
        3
    );
    raw(state).execute_batch(&glued).unwrap();
    let found = crate::place::local(state).with_hash_part(&format!("{:032}", 3));
    corrupt(found, state, &["column ValidPaths.path"]);
}

#[test]
fn references_that_lead_nowhere_are_told() {
    let scratch = scratch();
    let state = scratch.path();
    prepare(state);
    raw(state)
        .execute_batch("DELETE FROM ValidPaths WHERE id = 1")
        .unwrap();
    let way_out = ["Refs.reference", "does not exist", "overstore check"];
    corrupt(local(state).path_info(&name(2)), state, &way_out);
    let mut upper = upper(state);
    corrupt(upper.path_info(&name(2)), state, &way_out);
    // Registered again, it is another row; the old reference still leads nowhere.
    upper
        .write(|change| change.register(&[object(1, &[])]))
        .unwrap();
    corrupt(upper.path_info(&name(2)), state, &way_out);
    raw(state)
        .execute_batch("UPDATE Refs SET reference = 4, referrer = 99")
        .unwrap();
    corrupt(
        upper.referrers(&name(1)),
        state,
        &["column Refs.referrer", "missing"],
    );
}

/// Opens the database for reading and asks everything; the first error, if any.
fn read_all(state: &Path) -> Result<usize> {
    let local = Local::open(state, &store_dir())?.expect("the schema says that it is there");
    let all = local.all_valid()?;
    for name in &all {
        local.path_info(name)?;
        local.referrers(name)?;
    }
    local.finish()?;
    Ok(all.len())
}

fn open_and_read(state: &Path) -> Result<usize> {
    let upper = Upper::open(&layout(state))?;
    let all = upper.all_valid()?;
    all.iter()
        .try_for_each(|name| upper.path_info(name).map(drop))?;
    Ok(all.len())
}

#[test]
fn a_file_that_is_cut_off_is_corrupt() {
    for length in [0, 1, 50, 100, 4096, 8192, 20_000, 36_864] {
        for read in [read_all, open_and_read] {
            let scratch = scratch();
            let state = scratch.path();
            prepare(state);
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            raw(state).query_row(checkpoint, [], |_| Ok(())).unwrap();
            let file = state.join("db/db.sqlite");
            assert!(file.metadata().unwrap().len() > length, "{length}");
            let opened = OpenOptions::new().write(true).open(file).unwrap();
            opened.set_len(length).unwrap();
            let error = read(state).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{length}: {error}");
        }
    }
}

fn told(state: &Path) -> [Error; 2] {
    [
        read_all(state).unwrap_err(),
        open_and_read(state).unwrap_err(),
    ]
}

#[test]
fn missing_tables_and_other_schemas_are_told() {
    for table in ["ValidPaths", "Refs", "DerivationOutputs"] {
        let scratch = scratch();
        prepare(scratch.path());
        raw(scratch.path())
            .execute_batch(&format!("DROP TABLE {table}"))
            .unwrap();
        for error in told(scratch.path()) {
            assert_eq!(error.kind(), Kind::Corrupt, "{table}: {error}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("table {table} is missing; ")),
                "{text}"
            );
        }
    }
    let scratch = scratch();
    prepare(scratch.path());
    std::fs::write(scratch.path().join("db/schema"), "11").unwrap();
    for error in told(scratch.path()) {
        assert!(
            error.to_string().ends_with("use a newer overstore"),
            "{error}"
        );
    }
}
