// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that wait for others: they say for what, and a signal ends them, with nothing changed.

use crate::place::{layout, scratch};
use overstore::metadata::Upper;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a command may take to end once it is told to.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How soon it is said what is waited for.
const SAID_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct World(TempDir);

impl World {
    pub(crate) fn new() -> World {
        let world = World(scratch());
        for dir in ["low/nix/store", "up", "m/nix/store"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        fs::write(world.path("file"), "content").unwrap();
        drop(Upper::open(&layout(&world.path("state"))).unwrap());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("state/db/db.sqlite")).unwrap()
    }

    fn url(&self, lower: &str) -> String {
        let root = self.0.path().display();
        format!(
            "local-overlay://?root={root}/m&lower-store={lower}&upper-layer={root}/up&\
             state={root}/state&check-mount=false"
        )
    }

    /// The store whose lower is a local store without a database.
    pub(crate) fn plain(&self) -> String {
        self.url(&self.path("low").display().to_string())
    }

    /// Starts a command that adds the file.
    fn add(&self, url: &str) -> Waiting {
        self.start(&["add", "--store", url, "file"])
    }

    fn start(&self, words: &[&str]) -> Waiting {
        let mut child = Command::new(env!("CARGO_BIN_EXE_overstore"))
            .args(words)
            .current_dir(self.0.path())
            .env_remove("OVERSTORE_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Waiting { child, stderr }
    }

    /// What is in the merged directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("m/nix/store")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[track_caller]
    fn is_unchanged(&self) {
        let rows = self
            .database()
            .query_row("SELECT count(*) FROM ValidPaths", [], |row| row.get(0));
        assert_eq!(rows, Ok(0));
        assert_eq!(self.names(), Vec::<String>::new());
    }
}

/// A part of a dump, in a file, would look like a whole one.
#[test]
fn a_dump_is_whole_or_empty() {
    let world = World::new();
    let row = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES (?1, ?2, 7)";
    let good = format!("sha256:{}", "0".repeat(64));
    for (name, hash) in [("a", good.as_str()), ("b", "sha256:nonsense")] {
        let path = format!("/nix/store/{}-{name}", "1".repeat(32));
        world.database().execute(row, [&path, hash]).unwrap();
    }
    let dump = || {
        let mut run = world.start(&["dump-db", "--store", &world.plain()]);
        let mut out = String::new();
        let mut stdout = run.child.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        (run.child.wait().unwrap().code(), out)
    };
    assert_eq!(dump(), (Some(4), String::new()));
    let mend = "UPDATE ValidPaths SET hash = ?1";
    world.database().execute(mend, [&good]).unwrap();
    let (code, out) = dump();
    assert_eq!(
        (code, out.matches("/nix/store/").count()),
        (Some(0), 2),
        "{out}"
    );
}

/// A command that is to wait for something.
struct Waiting {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Waiting {
    /// Waits until it says that it waits, sends the signal, and returns what it said at last.
    #[track_caller]
    fn ended_by(mut self, signal: Signal, waits_for: &str) -> String {
        let begin = Instant::now();
        let mut said = String::new();
        self.stderr.read_line(&mut said).unwrap();
        assert!(begin.elapsed() < SAID_WITHIN, "{said}");
        let begins = format!("warning: waiting {waits_for}");
        assert!(said.starts_with(&begins), "{said:?}, not {begins:?}");
        assert!(self.child.try_wait().unwrap().is_none());
        let told = Instant::now();
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
        let mut last = String::new();
        self.stderr.read_to_string(&mut last).unwrap();
        assert_eq!(status.code(), Some(3), "{status}: {last}");
        assert!(last.contains(": interrupted"), "{last}");
        last
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[test]
fn a_locked_database() {
    let world = World::new();
    let holder = world.database();
    for signal in [Signal::INT, Signal::TERM] {
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let file = world.path("state/db/db.sqlite");
        let waits_for = format!("for the database {}, held by another process", shown(&file));
        let last = world.add(&world.plain()).ended_by(signal, &waits_for);
        assert_eq!(last.lines().count(), 1, "{last}");
        holder.execute_batch("ROLLBACK").unwrap();
        world.is_unchanged();
    }
}

/// Where no log is kept, not even a reader gets in.
#[test]
fn a_database_without_a_log() {
    let world = World::new();
    let holder = world.database();
    let mode: String = holder
        .query_row("PRAGMA journal_mode = delete", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let waits_for = "for the database ";
    world.add(&world.plain()).ended_by(Signal::INT, waits_for);
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    world.is_unchanged();
    // Nor to the lower's.
    fs::create_dir_all(world.path("low/nix/var/nix")).unwrap();
    drop(Upper::open(&layout(&world.path("low/nix/var/nix"))).unwrap());
    let holder = Connection::open(world.path("low/nix/var/nix/db/db.sqlite")).unwrap();
    holder
        .query_row("PRAGMA journal_mode = delete", [], |row| {
            row.get::<_, String>(0)
        })
        .unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    world.add(&world.plain()).ended_by(Signal::INT, waits_for);
    world.is_unchanged();
}

#[test]
fn an_upgrade_of_the_schema() {
    let world = World::new();
    let path = world.path("state/db/big-lock");
    let upgrade = File::open(&path).unwrap();
    flock(&upgrade, FlockOperation::LockExclusive).unwrap();
    let waits_for = format!(
        "to take the lock of schema upgrades {}, held by",
        shown(&path)
    );
    for signal in [Signal::INT, Signal::HUP] {
        world.add(&world.plain()).ended_by(signal, &waits_for);
    }
    drop(upgrade);
    world.is_unchanged();
}

#[test]
fn a_daemon_that_hangs() {
    let world = World::new();
    let socket = world.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let url = world.url(&format!("unix://{}", shown(&socket)));
    let waits_for = format!("for the daemon at {}", shown(&socket));
    let last = world.add(&url).ended_by(Signal::INT, &waits_for);
    assert!(last.contains("at the daemon "), "{last}");
    // Here it does not even take the connection.
    let mut queue = Vec::new();
    let full = loop {
        let stream = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        );
        let stream = stream.unwrap();
        let address = rustix::net::SocketAddrUnix::new(&socket).unwrap();
        match rustix::net::connect(&stream, &address) {
            Ok(()) => queue.push(UnixStream::from(stream)),
            Err(why) => break why,
        }
    };
    assert_eq!(full, rustix::io::Errno::AGAIN);
    world.add(&url).ended_by(Signal::TERM, &waits_for);
    drop(listener);
    world.is_unchanged();
}

/// The driver of a mount waits for the database in the background: not longer than its caller.
#[test]
fn a_mount_in_the_background() {
    if rustix::fs::access("/dev/fuse", rustix::fs::Access::WRITE_OK).is_err() {
        return crate::skip::skip("/dev/fuse may not be opened");
    }
    let world = World::new();
    let upgrade = File::open(world.path("state/db/big-lock")).unwrap();
    flock(&upgrade, FlockOperation::LockExclusive).unwrap();
    let words = ["mount", "--backend", "fuse", &world.plain()];
    let mut run = world.start(&words);
    let mut said = String::new();
    while !said.contains("warning: waiting to take the lock") {
        assert!(run.stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let told = Instant::now();
    kill_process(Pid::from_child(&run.child), Signal::TERM).unwrap();
    // Both have it open.
    run.stderr.read_to_string(&mut said).unwrap();
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    drop(upgrade);
    world.is_unchanged();
}
