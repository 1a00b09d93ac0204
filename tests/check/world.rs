// SPDX-License-Identifier: MIT OR Apache-2.0
//! A good layout with databases, mounted, and the questions asked about it.
//!
//! Invariant: gone with its value, mounts included.

use crate::skip::skip;
use overstore::layout::{Layout, LayoutEnv, Probe};
use overstore::metadata;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Objects that only the lower has, with rows in both databases; `TOOL` refers to `LIB`.
pub(crate) const LIB: &str = "00000000000000000000000000000000-lib";
pub(crate) const TOOL: &str = "11111111111111111111111111111111-tool";
/// One that is valid in the lower and unknown to the upper database.
pub(crate) const OTHER: &str = "22222222222222222222222222222222-other";
/// One that the upper alone has; refers to `LIB`.
pub(crate) const NEW: &str = "33333333333333333333333333333333-new";
/// One that both have, with a row in both databases.
pub(crate) const TWICE: &str = "44444444444444444444444444444444-twice";
/// What nobody ever registered, in the lower.
pub(crate) const GARBAGE: &str = "55555555555555555555555555555555-garbage";

pub(crate) struct World {
    dir: tempfile::TempDir,
    /// Names the lower directory in the URL.
    lower: &'static str,
}

impl World {
    /// A good layout, mounted by FUSE.
    pub(crate) fn mounted() -> World {
        let world = World::new("l");
        world.must(&format!("overstore mount {}", world.quoted_url()));
        world
    }

    /// A good layout whose URL names the lower by `lower`: `l`, or the symlink `s`.
    pub(crate) fn new(lower: &'static str) -> World {
        let dir = tempfile::Builder::new()
            .prefix("overstore-check-")
            .tempdir();
        let world = World {
            dir: dir.unwrap(),
            lower,
        };
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        world.must(&format!(
            "umask 022; mkdir -p l/nix/store u root state bin && ln -s l s
            for object in {LIB} {TOOL} {OTHER} {TWICE} {GARBAGE}; do
                mkdir -p l/nix/store/$object/sub
                echo text >l/nix/store/$object/file
                echo text >l/nix/store/$object/sub/file
            done
            mkdir u/{NEW} && echo new >u/{NEW}/file && ln -s file u/{NEW}/link
            cp -r l/nix/store/{TWICE} u/
            for object in l/nix/store/* u/*; do
                chmod -R a-w,a+rX $object && find $object -exec touch -h -d @1 {{}} +
            done"
        ));
        let program = env!("CARGO_BIN_EXE_overstore");
        world.must(&format!("cp {program} bin/overstore"));
        world.database(
            "l/nix/var/nix",
            &[(LIB, &[]), (TOOL, &[LIB]), (OTHER, &[]), (TWICE, &[])],
        );
        let rows: &[(&str, &[&str])] = &[(LIB, &[]), (TOOL, &[LIB]), (NEW, &[LIB]), (TWICE, &[])];
        world.database("state", rows);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the view is mounted.
    pub(crate) fn merged(&self) -> PathBuf {
        self.path("root/nix/store")
    }

    pub(crate) fn url(&self) -> String {
        let root = self.path("").display().to_string();
        format!(
            "local-overlay://?root={root}root&lower-store={root}{}&upper-layer={root}u&state={root}state",
            self.lower
        )
    }

    pub(crate) fn quoted_url(&self) -> String {
        format!("'{}'", self.url())
    }

    /// Makes the database of the state directory `state`, with these objects and references.
    fn database(&self, state: &str, rows: &[(&str, &[&str])]) {
        let url = format!("{}&state={}", self.url(), self.path(state).display());
        let env = LayoutEnv::new([], self.path(""), true, Probe::host());
        let (mut layout, _) = Layout::from_url(&url, &env).unwrap();
        layout.state = Some(self.path(state));
        metadata::prepare_state(&layout).unwrap();
        for (object, references) in rows {
            self.sql(state, &format!(
                "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('/nix/store/{object}', 'sha256:{:064}', 1)", 0
            ));
            for reference in *references {
                self.sql(
                    state,
                    &format!(
                        "INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths AS a, ValidPaths AS b \
                     WHERE a.path = '/nix/store/{object}' AND b.path = '/nix/store/{reference}'"
                    ),
                );
            }
        }
    }

    /// Changes the database of a state directory, past every rule.
    pub(crate) fn sql(&self, state: &str, statement: &str) {
        let file = self.path(state).join("db/db.sqlite");
        let database = Connection::open(file).unwrap();
        let mut keep = 1;
        database
            .file_control(
                Some(rusqlite::MAIN_DB),
                rusqlite::FileControl::PersistWal(&mut keep),
            )
            .unwrap();
        database.execute_batch("PRAGMA foreign_keys = 0").unwrap();
        database.execute_batch(statement).unwrap();
    }

    /// A shell in the directory of this world, with the program in its search path.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        let bin = self.path("bin");
        command.args(["-ec", script]).current_dir(self.path(""));
        command.env("PATH", format!("{}:{path}", bin.display()));
        for name in [
            "OVERSTORE_STORE",
            "OVERSTORE_LOG",
            "NIX_REMOTE",
            "NIX_STORE_DIR",
        ] {
            command.env_remove(name);
        }
        command.env("URL", self.url()).env("M", self.merged());
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Runs a script that must succeed, and returns what it printed.
    #[track_caller]
    pub(crate) fn must(&self, script: &str) -> String {
        let output = self.shell(script).output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks for the faults of the layout.
    pub(crate) fn check(&self) -> Checked {
        self.check_words(&self.quoted_url())
    }

    pub(crate) fn check_words(&self, words: &str) -> Checked {
        let command = format!("overstore check --json {words}");
        Checked::of(&self.shell(&command).output().unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let root = self.path("");
        let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(1));
        let mut ours: Vec<&str> = points
            .filter(|point| Path::new(point).starts_with(&root))
            .collect();
        ours.reverse();
        for point in ours {
            drop(Command::new("umount").args(["-l", point]).output());
        }
        drop(self.shell("chmod -R u+rwX .").output());
    }
}

/// What `overstore check --json` said.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
}

impl Checked {
    #[track_caller]
    pub(crate) fn of(output: &Output) -> Checked {
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|why| panic!("{why}: {}", stderr(output)));
        Checked {
            code: output.status.code(),
            report,
        }
    }

    fn faults(&self) -> &[Value] {
        self.report["faults"].as_array().unwrap()
    }

    /// The kinds of the faults, in the order they were told.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let ids = self.faults().iter();
        ids.map(|fault| fault["id"].as_str().unwrap()).collect()
    }

    /// The commands that mend them.
    pub(crate) fn mends(&self) -> Vec<String> {
        let faults = self.faults().iter();
        faults
            .filter_map(|fault| fault["mend"].as_str().map(str::to_owned))
            .collect()
    }

    /// The kinds of faults that may be there unseen.
    pub(crate) fn unseen(&self) -> Vec<&str> {
        let all = self.report["not-checked"].as_array().unwrap();
        let ids = all.iter().flat_map(|one| one["ids"].as_array().unwrap());
        ids.map(|id| id.as_str().unwrap()).collect()
    }

    /// The answer of one probe.
    pub(crate) fn probe(&self, id: &str) -> &str {
        let probes = self.report["probes"].as_array().unwrap();
        let probe = probes.iter().find(|probe| probe["id"] == id);
        probe.unwrap()["result"].as_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_clean(&self, when: &str) {
        assert_eq!(self.code, Some(0), "{when}: {:#}", self.report["faults"]);
        assert!(self.ids().is_empty(), "{when}: {:#}", self.report["faults"]);
    }
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Whether this is root with FUSE.
pub(crate) fn can_mount() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if fs::metadata("/dev/fuse").is_err() {
        "no /dev/fuse"
    } else {
        return true;
    };
    skip(why);
    false
}
