// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writers that do not come to their end: killed, out of room, or not allowed to write.
//!
//! Each is a process of its own: this test binary, started again with the name of one test and a state
//! directory in its environment.

use crate::place::{layout, local, name, object, raw, scratch, store_dir, upper};
use crate::skip::skip;
use overstore::error::Kind;
use overstore::metadata::{Local, Registration, Source, Upper};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the child: where it is to write.
const STATE: &str = "OVERSTORE_TEST_STATE";
const PLAIN_USER: &str = "61234";
/// More than SQLite keeps in memory, so that some of it is in the log before the end.
const MANY: u32 = 20_000;

fn told() -> Option<PathBuf> {
    std::env::var_os(STATE).map(PathBuf::from)
}

fn many(from: u32, count: u32) -> Vec<Registration> {
    (from..from + count)
        .map(|number| object(number, &[]))
        .collect()
}

fn count(state: &Path) -> usize {
    let local = local(state);
    let count = local.all_valid().unwrap().len();
    local.finish().unwrap();
    count
}

fn sound(state: &Path) {
    let check = raw(state).query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
    let foreign = "SELECT count(*) FROM pragma_foreign_key_check";
    assert_eq!(
        raw(state).query_row(foreign, [], |row| row.get::<_, i64>(0)),
        Ok(0)
    );
}

/// Not a test by itself: writes much, says so, and never comes to an end.
#[test]
fn writes_where_it_is_told() {
    let Some(state) = told() else { return };
    let never = upper(&state).write(|change| {
        change.register(&many(100, MANY))?;
        // Past the runner's capture.
        writeln!(std::io::stdout(), "\nwritten").unwrap();
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        Ok(())
    });
    never.unwrap();
}

#[test]
fn a_writer_that_is_killed_leaves_nothing() {
    let scratch = scratch();
    let state = scratch.path();
    upper(state)
        .write(|change| change.register(&many(1, 3)))
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ended::writes_where_it_is_told", "--nocapture"])
        .env(STATE, state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let written = lines.map_while(Result::ok).any(|line| line == "written");
    let log = state.join("db/db.sqlite-wal");
    let logged = fs::metadata(log).unwrap().len();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(written);
    assert!(logged > 1 << 20, "{logged} bytes of the log were written");
    assert_eq!(count(state), 3);
    let mut upper = upper(state);
    upper.write(|change| change.register(&many(50, 1))).unwrap();
    drop(upper);
    assert_eq!(count(state), 4);
    sound(state);
}

/// Not a test by itself: fills the small filesystem that it is told of.
#[test]
fn fills_where_it_is_told() {
    let Some(state) = told() else { return };
    fs::create_dir(state.join("db")).unwrap();
    fs::write(state.join("db/reserved"), "").unwrap();
    fs::write(state.join("filler"), vec![1; 1 << 20]).unwrap();
    let mut upper = upper(&state);
    let mut done = 0;
    let error = loop {
        match upper.write(|change| change.register(&many(1000 * done, 1000))) {
            Ok(()) => done += 1,
            Err(error) => break error,
        }
        assert!(done < 100, "the filesystem is not small");
    };
    assert_eq!(error.kind(), Kind::Environment, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("full") && text.contains("db.sqlite"),
        "{text}"
    );
    let left = usize::try_from(1000 * done).unwrap();
    assert!(left > 0, "nothing fitted: {text}");
    assert_eq!(upper.all_valid().unwrap().len(), left);
    fs::remove_file(state.join("filler")).unwrap();
    upper
        .write(|change| change.register(&many(1000 * done, 1000)))
        .unwrap();
    drop(upper);
    assert_eq!(count(&state), left + 1000);
    sound(&state);
    writeln!(std::io::stdout(), "\nfilled").unwrap();
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(output) = inside(
        "mount -t tmpfs -o size=4m tmpfs \"$1/state\" && exec \"$1/test\" --exact ended::fills_where_it_is_told --nocapture",
    ) else {
        return;
    };
    assert!(output.contains("\nfilled"), "{output}");
}

/// Not a test by itself: collects on the full filesystem that it is told of.
#[test]
fn collects_where_it_is_told() {
    let (Some(state), Some(_)) = (told(), std::env::var_os("OVERSTORE_TEST_COLLECT")) else {
        return;
    };
    drop(upper(&state));
    assert_eq!(
        fs::metadata(state.join("db/reserved")).unwrap().len(),
        8 << 20
    );
    for log in ["db/db.sqlite-wal", "db/db.sqlite-shm"] {
        fs::remove_file(state.join(log)).unwrap();
    }
    for dir in ["low", "up", "m"] {
        fs::create_dir_all(state.join(dir).join("nix/store")).unwrap();
    }
    let garbage = state.join("up/nix/store/11111111111111111111111111111111-garbage");
    fs::write(&garbage, vec![1; 4096]).unwrap();
    let filled = fs::write(state.join("filler"), vec![1; 64 << 20]);
    assert!(filled.is_err(), "the filesystem is not small");
    let here = state.display();
    let url = format!(
        "local-overlay://?root={here}/up&lower-store={here}/low&upper-layer={here}/up/nix/store\
         &state={here}&check-mount=false"
    );
    // Who does not collect has no room, and does not take the last of it.
    let run = |word: &str| {
        let command = Command::new(std::env::var_os("OVERSTORE_TEST_COLLECT").unwrap())
            .args([word, "--store", &url])
            .stdin(Stdio::null())
            .output();
        let output = command.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run("optimise");
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(
        fs::metadata(state.join("db/reserved")).unwrap().len(),
        8 << 20
    );
    let (code, said) = run("gc");
    assert_eq!(code, Some(0), "{said}");
    assert!(!garbage.try_exists().unwrap());
    writeln!(std::io::stdout(), "\ncollected").unwrap();
}

#[test]
fn a_full_disk_is_collected_on() {
    let script = format!(
        "mount -t tmpfs -o size=12m tmpfs \"$1/state\" && touch \"$1/program\" && \
         mount --bind '{}' \"$1/program\" && \
         OVERSTORE_TEST_COLLECT=\"$1/program\" exec \"$1/test\" --exact ended::collects_where_it_is_told --nocapture",
        env!("CARGO_BIN_EXE_overstore")
    );
    let Some(output) = inside(&script) else {
        return;
    };
    assert!(output.contains("\ncollected"), "{output}");
}

/// Not a test by itself: a plain user who may read the state that it is told of.
#[test]
fn reads_where_it_may_not_write() {
    let Some(state) = told() else { return };
    let error = Upper::open(&layout(&state)).unwrap_err();
    assert_eq!(error.kind(), Kind::Environment, "{error}");
    let text = error.to_string();
    assert!(text.ends_with("; run as its owner"), "{text}");
    let local = Local::open(&state, &store_dir()).unwrap().unwrap();
    assert_eq!(local.is_valid(&name(1)), Ok(true));
    local.finish().unwrap();
    writeln!(std::io::stdout(), "\nread").unwrap();
}

#[test]
fn a_state_that_may_not_be_written_is_told() {
    // Once the whole state is another's, once only the database file is.
    for theirs in [
        "\"$1/none\"",
        "\"$1/state\" \"$1/state/\"* \"$1/state/db\" \"$1/state/db/big-lock\"",
    ] {
        let script = format!(
            "OVERSTORE_TEST_MAKE=1 \"$1/test\" --exact ended::makes_where_it_is_told --nocapture && \
             mkdir \"$1/none\" && chmod 644 \"$1/state/db/big-lock\" && chown {PLAIN_USER} {theirs} && \
             exec setpriv --reuid={PLAIN_USER} --regid={PLAIN_USER} --clear-groups \
             \"$1/test\" --exact ended::reads_where_it_may_not_write --nocapture"
        );
        if !rustix::process::geteuid().is_root() {
            return skip("only root can become a plain user");
        }
        let Some(output) = inside(&script) else {
            return;
        };
        assert!(output.contains("\nread"), "{output}");
    }
}

/// Not a test by itself: makes the state that it is told of.
#[test]
fn makes_where_it_is_told() {
    if let (Some(state), Some(_)) = (told(), std::env::var_os("OVERSTORE_TEST_MAKE")) {
        upper(&state)
            .write(|change| change.register(&many(1, 3)))
            .unwrap();
    }
}

/// Runs a script in a mount namespace of its own, with a scratch directory as `$1` that holds this
/// test binary and the state directory; returns what it printed.
fn inside(script: &str) -> Option<String> {
    let root = rustix::process::geteuid().is_root();
    let namespaces = if root { "-m" } else { "-Urm" };
    let possible = Command::new("unshare").args([namespaces, "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("mount namespaces are not allowed here");
        return None;
    }
    let scratch = scratch();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scratch.path(), open).unwrap();
    fs::create_dir(scratch.path().join("state")).unwrap();
    let place = "touch \"$1/test\" && mount --bind \"$2\" \"$1/test\" && cd \"$1\" && ";
    let output = Command::new("timeout")
        .args(["--signal=KILL", "120", "unshare", namespaces])
        .args([
            "--propagation",
            "private",
            "sh",
            "-c",
            &format!("{place}{script}"),
            "sh",
        ])
        .args([scratch.path(), &std::env::current_exe().unwrap()])
        .env(STATE, scratch.path().join("state"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(
        output.status.success(),
        "{}: {stdout}{stderr}",
        output.status
    );
    Some(stdout)
}
