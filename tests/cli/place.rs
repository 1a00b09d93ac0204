// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories of one test, and who runs the program in them.

use crate::skip::skip;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A user who may do nothing special; has an entry in /etc/passwd everywhere.
pub(crate) const NOBODY: u32 = 65534;

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root of this machine.
    Root,
    /// Root of a user namespace, with its own mount namespace.
    NamespaceRoot,
    /// A plain user.
    Plain,
}

/// The directories of one test; gone with it, mounts included.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    who: Who,
}

impl Place {
    pub(crate) fn new(who: Who) -> Place {
        let dir = tempfile::Builder::new()
            .prefix("overstore-cli-")
            .tempdir()
            .unwrap();
        let place = Place { dir, who };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["l", "u", "m"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        fs::write(place.path("l/low"), "from the lower\n").unwrap();
        // Not by this process: a test that forks meanwhile would hold it open for writing.
        let copied = Command::new("cp")
            .args([
                OsStr::new(env!("CARGO_BIN_EXE_overstore")),
                place.path("overstore").as_os_str(),
            ])
            .status();
        assert!(copied.unwrap().success());
        if who == Who::Plain && is_root() {
            for name in ["l", "u", "m", ""] {
                chown(place.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The options that name the layers.
    pub(crate) fn layers(&self) -> String {
        format!(
            "lowerdir={},upperdir={}",
            self.path("l").display(),
            self.path("u").display()
        )
    }

    /// The program, in the environment of whoever runs it here.
    pub(crate) fn overstore(&self) -> Command {
        let program = self.path("overstore");
        self.command(program)
    }

    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command.args(["-c", script]);
        command.env("O", self.path("overstore"));
        command.env("LAYERS", self.layers());
        command.env("M", self.path("m"));
        command.current_dir(self.dir.path());
        command
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.who {
            Who::NamespaceRoot => {
                let mut command = Command::new("unshare");
                command.args(["-Urm", "--"]).arg(program);
                command
            }
            Who::Root | Who::Plain => Command::new(program),
        };
        if self.who == Who::Plain && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        for name in [
            "OVERSTORE_STORE",
            "OVERSTORE_LOG",
            "NIX_REMOTE",
            "NIX_STORE_DIR",
            "NIX_STORE",
        ] {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a private namespace the mount has gone with the namespace.
        if self.who != Who::NamespaceRoot {
            drop(
                self.overstore()
                    .args(["umount", "--lazy"])
                    .arg(self.path("m"))
                    .output(),
            );
        }
        // OverlayFS leaves a directory of mode 0 in its work directory, which stops its owner.
        let mut open = Command::new("chmod");
        drop(open.args(["-R", "u+rwX"]).arg(self.path("")).output());
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `who` can be played here, with FUSE.
pub(crate) fn can(who: Who) -> bool {
    let device = Path::new("/dev/fuse");
    let Ok(metadata) = fs::metadata(device) else {
        skip("no /dev/fuse");
        return false;
    };
    let open_to_all = metadata.permissions().mode() & 0o006 == 0o006;
    let why = match who {
        Who::Root if !is_root() => "not root",
        Who::Plain | Who::NamespaceRoot if !open_to_all => "/dev/fuse is not open to all users",
        Who::Plain if !succeeds(Command::new("fusermount3").arg("-V")) => "no fusermount3",
        Who::NamespaceRoot if !succeeds(Command::new("unshare").args(["-Urm", "true"])) => {
            "no user namespaces"
        }
        _ => return true,
    };
    skip(why);
    false
}

pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[track_caller]
pub(crate) fn assert_ok(output: &Output) {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        stderr(output)
    );
}

/// Waits until `done`, for as long as a loaded machine may need.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
