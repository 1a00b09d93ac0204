// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a collection costs does not depend on the lower: its system calls are counted with a lower of 20
//! and with one of 20,000 objects. Needs strace and sqlite3, and neither root nor Nix.
#![expect(clippy::unwrap_used, reason = "a test fails where a step does")]

use crate::skip::skip;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Calls that look at files, rows and directories.
const CALLS: &str = "trace=openat,statx,newfstatat,pread64,getdents64,unlinkat,renameat2";
/// Dead objects of each collection.
const DEAD: usize = 50;

fn object(number: usize, name: &str) -> String {
    format!("{number:032}-{name}")
}

fn tool(name: &str) -> bool {
    let shown = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    shown.is_ok_and(|status| status.success())
}

/// A store whose view is its upper directory; the lower's files are not asked through it.
fn url(root: &Path, lower: &Path) -> String {
    let (root, lower) = (root.display(), lower.display());
    format!(
        "local-overlay://?root={root}&lower-store={lower}&upper-layer={root}/nix/store&check-mount=false"
    )
}

fn rows(root: &Path, names: &[String]) {
    let mut sql = "BEGIN;".to_owned();
    for name in names {
        fs::write(root.join("nix/store").join(name), name).unwrap();
        let zeros = "0".repeat(64);
        write!(
            sql,
            "INSERT INTO ValidPaths (path, hash, registrationTime, narSize) \
             VALUES ('/nix/store/{name}', 'sha256:{zeros}', 1, 1);"
        )
        .unwrap();
    }
    sql += "COMMIT; PRAGMA wal_checkpoint(truncate);";
    let file = root.join("sql");
    fs::write(&file, sql).unwrap();
    let database = root.join("nix/var/nix/db/db.sqlite");
    let done = Command::new("sqlite3")
        .arg(database)
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", done.stderr.escape_ascii());
}

fn gc(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overstore"));
    command.args(["gc", "--json", "--store", url]);
    command
}

/// Collects; returns the calls, but for those that look at what runs on this machine.
fn counted(root: &Path, lower: &Path) -> usize {
    let dead: Vec<_> = (0..DEAD).map(|number| object(number, "dead")).collect();
    rows(root, &dead);
    let trace = root.join("trace");
    let plain = gc(&url(root, lower));
    let done = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(plain.get_program())
        .args(plain.get_args())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", done.stderr.escape_ascii());
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["deleted"].as_array().unwrap().len(), DEAD);
    let trace = fs::read(&trace).unwrap();
    let lines = trace.split(|byte| *byte == b'\n');
    let listed = format!("<{}/nix/store>", lower.display());
    lines
        .filter(|line| !contains(line, b"/proc"))
        .inspect(|line| {
            let lists = contains(line, b"getdents64") && contains(line, listed.as_bytes());
            assert!(!lists, "the lower is listed: {}", line.escape_ascii());
        })
        .count()
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_large_lower_costs_nothing() {
    if !tool("strace") || !tool("sqlite3") {
        return skip("needs strace and sqlite3");
    }
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (root, lower) = (scratch.path().join("m"), scratch.path().join("l"));
    for (own, other) in [(&root, &lower), (&lower, &root)] {
        fs::create_dir_all(own.join("nix/store")).unwrap();
        // Opening a store for change makes its database.
        let made = gc(&url(own, other)).output().unwrap();
        assert!(made.status.success(), "{}", made.stderr.escape_ascii());
    }
    let names: Vec<_> = (0..20_000).map(|number| object(number, "low")).collect();
    rows(&lower, &names[..20]);
    let few = counted(&root, &lower);
    rows(&lower, &names[20..]);
    let many = counted(&root, &lower);
    println!("{few} calls over 20 objects, {many} over 20,000");
    assert!(few > DEAD, "{few} calls are too few to be all");
    assert!(many < few + few / 2, "{many} calls instead of {few}");
    assert!(fs::read_dir(lower.join("nix/store")).unwrap().count() == 20_000);
}
