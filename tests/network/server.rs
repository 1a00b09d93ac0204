// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that serves a FUSE filesystem, which can be killed and started again.
//!
//! Invariant: when a guard is gone, so are its program and its mount.

use crate::common::check::{Must, text, within};
use crate::common::mode::Mode;
use crate::common::mount::is_mounted;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A filesystem served by a program in the foreground.
#[derive(Debug)]
pub(crate) struct Server {
    mode: Mode,
    at: PathBuf,
    words: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Serves the filesystem of the program `words` at `at`.
    pub(crate) fn new(mode: Mode, words: &[&str], at: &Path) -> Server {
        std::fs::create_dir_all(at).must();
        let mut server = Server {
            mode,
            at: at.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            child: None,
        };
        server.start();
        server
    }

    /// Serves `store` at `at` by bindfs, for reading.
    pub(crate) fn bindfs(mode: Mode, store: &Path, at: &Path) -> Server {
        let mut words = vec!["bindfs", "-f", "-r"];
        if mode == Mode::user {
            words.push("--no-allow-other");
        }
        Server::new(mode, &[&words[..], &[ascii(store), ascii(at)]].concat(), at)
    }

    /// Starts the program and waits until its filesystem is there.
    pub(crate) fn start(&mut self) {
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log).must();
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        command.stdout(output.try_clone().must()).stderr(output);
        let mut child = command.spawn().must();
        let mut ended = None;
        within(PATIENCE, || {
            ended = child.try_wait().must();
            ended.is_some() || is_mounted(&self.at)
        });
        self.child = Some(child);
        let said = || text(&std::fs::read(&log).unwrap_or_default());
        assert!(
            ended.is_none() && is_mounted(&self.at),
            "{:?}: {}",
            self.words,
            said()
        );
        // Answered when kernel and program have agreed.
        rustix::fs::stat(&self.at).must();
    }

    /// Kills the program; its mount stays, and is dead.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().must();
            child.wait().must();
        }
    }

    /// Takes the mount away; `lazily` also while somebody uses it.
    pub(crate) fn unmount(&self, lazily: bool) {
        unmount(self.mode, &self.at, lazily);
    }

    /// Starts the program anew at the same place, as an administrator does after a crash.
    pub(crate) fn restart(&mut self) {
        self.kill();
        // A program that was ending by itself takes its mount away until the moment it is killed.
        let mut last = Ok(());
        let gone = within(Duration::from_secs(2), || {
            if is_mounted(&self.at) {
                last = try_unmount(self.mode, &self.at, true);
            }
            !is_mounted(&self.at)
        });
        assert!(gone, "unmount {}: {last:?}", self.at.display());
        self.start();
    }

    fn log(&self) -> PathBuf {
        self.at.with_extension("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill().and_then(|()| child.wait()));
        }
        while is_mounted(&self.at) && try_unmount(self.mode, &self.at, true).is_ok() {}
        if std::thread::panicking() {
            let log = std::fs::read(self.log()).unwrap_or_default();
            println!("--- {}:\n{}\n---", self.words[0], text(&log));
        }
    }
}

/// Takes away what is mounted at `at`.
#[track_caller]
pub(crate) fn unmount(mode: Mode, at: &Path, lazily: bool) {
    let mut last = Ok(());
    // A descriptor that is just being closed keeps it busy.
    let done = within(Duration::from_secs(2), || {
        last = try_unmount(mode, at, lazily);
        last.is_ok()
    });
    assert!(done, "unmount {}: {last:?}", at.display());
}

fn try_unmount(mode: Mode, at: &Path, lazily: bool) -> Result<(), String> {
    let (program, flags) = match (mode, lazily) {
        (Mode::user, true) => ("fusermount3", "-uz"),
        (Mode::user, false) => ("fusermount3", "-u"),
        (_, true) => ("umount", "-ln"),
        (_, false) => ("umount", "-n"),
    };
    let words = [OsStr::new(flags), at.as_os_str()];
    let output = Command::new(program).args(words).output().must();
    match output.status.success() {
        true => Ok(()),
        false => Err(text(&output.stderr)),
    }
}

/// Returns a path as text; scratch paths are ASCII.
pub(crate) fn ascii(path: &Path) -> &str {
    path.to_str().expect("scratch paths are ASCII")
}
