// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix in a root folder that `scripts/nix-root` made from a Debian suite.
//!
//! Invariant: what is run there ends within its time, and every process and mount of it with it.
#![allow(
    dead_code,
    reason = "every test binary uses its own part of the harness"
)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use tempfile::TempDir;

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// How `nix-enter` ends when the time is over.
const TIME_IS_OVER: i32 = 137;
/// What `nix-enter` may take to end everything, in seconds.
const ENDING: u32 = 60;

/// Returns the root folder of `suite`, or why there is none here.
pub(crate) fn root_folder(suite: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can enter a root folder".to_owned());
    }
    let mut command = Command::new(format!("{HERE}/scripts/nix-root"));
    let made = command.arg(suite).output().unwrap();
    if !made.status.success() {
        return Err(text(made.stderr.trim_ascii()));
    }
    Ok(PathBuf::from(OsStr::from_bytes(made.stdout.trim_ascii())))
}

/// [`root_folder`], where drivers can run too.
pub(crate) fn root_folder_with_fuse(suite: &str) -> Result<PathBuf, String> {
    if !matches!(Path::new("/dev/fuse").try_exists(), Ok(true)) {
        return Err("no /dev/fuse".to_owned());
    }
    root_folder(suite)
}

/// Makes a directory for one test, which every user may enter.
pub(crate) fn scratch(prefix: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
}

/// The mount helper, a program of another package of this workspace.
pub(crate) fn helper() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_overstore")).with_file_name("mount-overstore")
}

/// What will run in a root folder, with what it sees of the host.
#[derive(Debug)]
pub(crate) struct Inside(Command);

impl Inside {
    /// What takes longer than `limit` seconds hangs, and is killed.
    pub(crate) fn new(root: &Path, limit: u32) -> Inside {
        let mut command = Command::new("timeout");
        command
            .arg("--signal=KILL")
            .arg((limit + ENDING).to_string())
            .arg(format!("{HERE}/scripts/nix-enter"))
            .args(["--limit", &limit.to_string()])
            .arg(root);
        Inside(command).bind_here("tests/common", "/run/common")
    }

    /// Shows `source` at `place`.
    pub(crate) fn bind(mut self, source: impl AsRef<Path>, place: impl AsRef<Path>) -> Inside {
        self.0.arg("--bind").args([source.as_ref(), place.as_ref()]);
        self
    }

    /// Shows a directory of the sources at `place`.
    pub(crate) fn bind_here(self, name: &str, place: &str) -> Inside {
        self.bind(Path::new(HERE).join(name), place)
    }

    /// Shows our programs; the mount helper where it is built.
    pub(crate) fn bind_programs(self) -> Inside {
        let shown = self.bind(env!("CARGO_BIN_EXE_overstore"), "/run/bin/overstore");
        let shown = shown.bind(
            env!("CARGO_BIN_EXE_overstore-sync"),
            "/run/bin/overstore-sync",
        );
        match helper().try_exists() {
            Ok(true) => shown.bind(helper(), "/run/bin/mount.overstore"),
            _ => shown,
        }
    }

    /// Returns the command that runs `words`.
    pub(crate) fn command<W: AsRef<OsStr>>(
        mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Command {
        self.0.arg("--").args(words);
        self.0
    }

    /// Runs `words` to their end.
    pub(crate) fn run<W: AsRef<OsStr>>(self, words: impl IntoIterator<Item = W>) -> Ended {
        // Into a file: a pipe would be waited for as long as any process holds it.
        let mut shown = tempfile::tempfile().unwrap();
        let status = self
            .command(words)
            .stdin(Stdio::null())
            .stdout(shown.try_clone().unwrap())
            .stderr(shown.try_clone().unwrap())
            .status()
            .unwrap();
        let mut bytes = Vec::new();
        shown.rewind().unwrap();
        shown.read_to_end(&mut bytes).unwrap();
        Ended {
            status,
            shown: text(&bytes),
        }
    }
}

/// How steps ended, and what they printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) shown: String,
}

impl Ended {
    /// Requires that all went well.
    #[track_caller]
    pub(crate) fn check(&self) {
        let Ended { status, shown } = self;
        match status.code() {
            Some(0) => print!("{shown}"),
            Some(TIME_IS_OVER) | None => panic!("hangs after the last step shown:\n{shown}"),
            _ => panic!("{status}:\n{shown}"),
        }
    }
}

/// Returns what a program said, readable even where it printed names that are no text.
pub(crate) fn text(bytes: &[u8]) -> String {
    let replaced = |invalid: &[u8]| if invalid.is_empty() { "" } else { "?" };
    let chunks = bytes.utf8_chunks();
    chunks
        .flat_map(|chunk| [chunk.valid(), replaced(chunk.invalid())])
        .collect()
}
