// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix in a root folder, which does what it is told, one command after the other.
//!
//! Invariant: it ends with its value, with every process and mount of it.

use crate::root_folder::{Inside, root_folder, scratch};
use crate::skip::skip;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use tempfile::TempDir;

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 300;

/// Nix and the stores that it makes: `/mnt` for it, [`Nix::path`] outside.
pub(crate) struct Nix {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    scratch: TempDir,
}

impl Nix {
    /// Enters the root folder of `suite`; `None`, having said why, where that is impossible.
    pub(crate) fn of(suite: &str) -> Option<Nix> {
        let root = match root_folder(suite) {
            Ok(root) => root,
            Err(why) => {
                skip(&why);
                return None;
            }
        };
        let scratch = scratch("lower-nix-");
        let mut child = Inside::new(&root, LIMIT_SECONDS)
            .bind(&scratch, "/mnt")
            .bind_here("tests/nix", "/run/tests")
            .bind_here("tests/lower", "/run/lower")
            .command(["bash", "/run/lower/nix.sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Nix {
            child,
            commands,
            answers,
            scratch,
        })
    }

    /// Where `/mnt/NAME` is outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs a command in a shell, and returns its exit code and what it printed.
    pub(crate) fn try_run(&mut self, command: &str) -> (i32, String) {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{}", command.replace('\n', " ")).unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "{command}: it ended: {printed}");
            if let Some(code) = line.strip_prefix("@@ ") {
                return (code.trim().parse().unwrap(), printed.trim().to_owned());
            }
            printed += &line;
        }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        let (code, printed) = self.try_run(command);
        assert_eq!(code, 0, "{command}: {printed}");
        printed
    }
}

impl Drop for Nix {
    fn drop(&mut self) {
        // The end of the commands ends the shell, and that all of its processes.
        drop(self.commands.take());
        drop(self.child.wait());
    }
}
