// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a test body in one of three modes: root, root of a user namespace, plain user.
//!
//! The test binary starts itself again, through `enter.sh`, with the name of the one test to run
//! and an environment variable that tells it to run the body. Invariant: the body never runs in
//! the process that the test runner started.

use super::check;
use super::fixture::Fixture;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The user that the unprivileged modes run as when the tests are started by root.
pub(crate) const PLAIN_ID: u32 = 61234;

/// Set in the child: the scratch directory, and the sign to run the body.
const SCRATCH: &str = "OVERSTORE_TEST_SCRATCH";
/// Set in the child: the program under test.
const PROGRAM: &str = "OVERSTORE_TEST_PROGRAM";
/// Set to test another build of the program.
const OTHER: &str = "OVERSTORE_BIN";
/// What a body prints, at the start of a line, before the reason for which it cannot run.
const SKIPPED: &str = "skipped: ";
/// A test that takes longer hangs.
const LIMIT_SECONDS: &str = "120";
/// Another limit, for runs of a size that the caller chooses.
const LIMIT: &str = "OVERSTORE_TEST_LIMIT";

/// Who performs a test.
#[allow(non_camel_case_types, reason = "the names are also those of the tests")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The super-user of the initial user namespace.
    root,
    /// Root of a user namespace that a plain user made; mounts with mount(2).
    userns,
    /// A plain user without any capability; mounts with `fusermount3`.
    user,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::root => "root",
            Mode::userns => "userns",
            Mode::user => "user",
        }
    }

    /// Tells whether this process may set `trusted.*` attributes and make device nodes.
    pub(crate) fn is_privileged(self) -> bool {
        self == Mode::root
    }

    /// Tells whether the test may call mount(2) itself.
    pub(crate) fn may_mount(self) -> bool {
        self != Mode::user
    }
}

/// Returns the program under test.
pub(crate) fn program() -> PathBuf {
    let named = std::env::var_os(PROGRAM).or_else(|| std::env::var_os(OTHER));
    named.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_overstore")),
        PathBuf::from,
    )
}

/// Ends the running body as one that cannot run here, which its parent reports.
pub(crate) fn skip(why: &str) -> ! {
    println!("\n{SKIPPED}{why}");
    std::process::exit(0);
}

/// Tells whether this process was started to run one body.
pub(crate) fn is_child() -> bool {
    std::env::var_os(SCRATCH).is_some()
}

/// Runs `body` in `mode`; `path` is the test's path with the crate's name in front.
pub(crate) fn run(mode: Mode, path: &str, body: fn(&Fixture)) {
    if let Some(scratch) = std::env::var_os(SCRATCH) {
        let fixture = Fixture::new(mode, Path::new(&scratch), path);
        body(&fixture);
        fixture.finish();
        return;
    }
    let test = path.split_once("::").map_or(path, |(_, name)| name);
    if mode == Mode::root && !rustix::process::geteuid().is_root() {
        return super::skip::skip("not started by root");
    }
    let scratch = Scratch::new(mode);
    let output = enter(mode, &scratch.0, test);
    report(mode, test, &output);
}

/// Prints what the child printed and fails if it failed.
fn report(mode: Mode, test: &str, output: &Output) {
    let text = check::text(&output.stdout);
    println!("{text}\n{}", check::text(&output.stderr));
    if let Some(why) = text.lines().find_map(|line| line.strip_prefix(SKIPPED)) {
        return super::skip::skip(why);
    }
    let ran = text.contains("1 passed");
    let word = mode.word();
    assert!(
        output.status.success() && ran,
        "{test} failed as {word}: {}",
        output.status
    );
}

/// Starts this test binary again with `test` alone, in `mode`.
fn enter(mode: Mode, scratch: &Path, test: &str) -> Output {
    let own: OsString = std::env::current_exe()
        .expect("a running test has a file")
        .into();
    let program = program();
    let limit = std::env::var_os(LIMIT).unwrap_or_else(|| LIMIT_SECONDS.into());
    let words: [&OsStr; 9] = [
        OsStr::new("--signal=KILL"),
        &limit,
        OsStr::new("sh"),
        OsStr::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/common/enter.sh"
        )),
        OsStr::new(mode.word()),
        scratch.as_os_str(),
        &own,
        program.as_os_str(),
        OsStr::new(test),
    ];
    Command::new("timeout")
        .args(words)
        .env(SCRATCH, scratch)
        .output()
        .expect("timeout(1) and sh(1) are there")
}

/// A directory that everybody may pass through, with a `work` directory of the test's user.
struct Scratch(PathBuf);

impl Scratch {
    fn new(mode: Mode) -> Self {
        let path = tempfile::Builder::new()
            .prefix("overstore-test-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("the temporary directory is writable")
            .keep();
        let work = path.join("work");
        std::fs::create_dir(&work).expect("the scratch directory is new");
        std::fs::create_dir(path.join("dev")).expect("the scratch directory is new");
        if mode != Mode::root && rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&work, Some(PLAIN_ID), Some(PLAIN_ID)).expect("root may");
        }
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Directories without permissions are part of some tests; a plain user must open them.
        drop(
            Command::new("chmod")
                .args(["-R", "u+rwX"])
                .arg(&self.0)
                .output(),
        );
        // Not `remove_dir_all`, which has a descriptor open for each level of a tree.
        let removed = Command::new("rm").arg("-rf").arg(&self.0).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("cannot remove {}", self.0.display());
        }
    }
}
