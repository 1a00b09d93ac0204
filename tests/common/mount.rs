// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts, waits until the mount is there, and unmounts on drop, also when the test fails.
//!
//! Invariant: when a guard is gone, so are its mount and its driver.

use super::check::{Must, text, within};
use super::mode::{Mode, program};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// How much of the driver's log a failed test prints, in lines.
const LOG_LINES: usize = 200;

/// One mounted merged view.
#[derive(Debug)]
pub(crate) struct MountGuard {
    mode: Mode,
    merged: PathBuf,
    log: PathBuf,
    driver: Option<Child>,
    tracer: Option<Child>,
}

impl MountGuard {
    /// Starts the driver in the foreground, so that its log can be shown.
    pub(crate) fn driver(mode: Mode, merged: &Path, layers: &str, trace: Option<PathBuf>) -> Self {
        // A setuid program under a tracer loses its privilege: in that mode strace attaches later.
        let wrapped = trace.as_ref().filter(|_| mode != Mode::user);
        let words = [OsStr::new("-o"), OsStr::new(layers), merged.as_os_str()];
        let mut guard = MountGuard::start(mode, merged, &words, wrapped);
        guard.wait_until_mounted();
        if let (Some(file), Mode::user) = (trace, mode) {
            guard.attach(&file);
        }
        guard
    }

    /// Starts the driver for the store `url`, which stands at `merged`, with further options.
    pub(crate) fn store(mode: Mode, merged: &Path, url: &str, options: &str) -> Self {
        let words = ["-o", options, url].map(OsStr::new);
        let mut guard = MountGuard::start(mode, merged, &words, None);
        guard.wait_until_mounted();
        guard
    }

    fn start(mode: Mode, merged: &Path, words: &[&OsStr], wrapped: Option<&PathBuf>) -> Self {
        let log = merged.with_file_name("driver.log");
        let mut command = match wrapped {
            Some(file) => {
                let mut strace = Command::new("strace");
                strace
                    .args(super::trace::FLAGS)
                    .arg("-o")
                    .arg(file)
                    .arg(program());
                strace
            }
            None => Command::new(program()),
        };
        command.args(["mount", "--foreground", "-v"]).args(words);
        let output = File::create(&log).must();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().must())
            .stderr(output);
        MountGuard {
            mode,
            merged: merged.to_owned(),
            log,
            driver: Some(command.spawn().must()),
            tracer: None,
        }
    }

    /// Mounts the kernel's OverlayFS, as reference.
    pub(crate) fn kernel(mode: Mode, merged: &Path, layers: &str) -> Self {
        if !mode.may_mount() {
            super::mode::skip("a plain user cannot mount the kernel's OverlayFS");
        }
        // With `userxattr` the kernel turns the other two off, and refuses to be told so.
        let off = match mode.is_privileged() {
            true => "index=off,redirect_dir=off,metacopy=off",
            false => "index=off,userxattr",
        };
        let options = format!("{layers},xino=on,{off}");
        let options = CString::new(options).must();
        let mounted = mount("overlay", merged, "overlay", MountFlags::empty(), &*options);
        mounted.unwrap_or_else(|error| panic!("mount {options:?}: {error}"));
        MountGuard {
            mode,
            merged: merged.to_owned(),
            log: PathBuf::from("/dev/null"),
            driver: None,
            tracer: None,
        }
    }

    /// Returns the path of `name` in the merged view.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        match name.as_ref().as_os_str().is_empty() {
            true => self.merged.clone(),
            false => self.merged.join(name),
        }
    }

    /// Returns the driver's process.
    pub(crate) fn driver_pid(&self) -> u32 {
        self.driver.as_ref().map_or(0, Child::id)
    }

    /// Ends the driver as a crash does, and takes the dead mount away.
    pub(crate) fn crash(mut self) {
        let status = Command::new(program())
            .args(["status", "--json"])
            .arg(&self.merged)
            .output()
            .must();
        let view: serde_json::Value = serde_json::from_slice(&status.stdout).must();
        let pid = view["pid"].as_u64().expect("the driver tells its process");
        run(Command::new("kill").args(["-KILL", &pid.to_string()]));
        self.crashed();
    }

    /// Takes the mount of a driver away that was killed.
    pub(crate) fn crashed(&mut self) {
        for child in [self.driver.take(), self.tracer.take()] {
            child.map(|mut child| child.wait().must());
        }
        self.unmount().expect("nothing is in use");
    }

    fn wait_until_mounted(&mut self) {
        let mut ended = None;
        let mounted = within(PATIENCE, || {
            ended = self
                .driver
                .as_mut()
                .and_then(|driver| driver.try_wait().must());
            ended.is_some() || is_mounted(&self.merged)
        });
        assert!(
            ended.is_none(),
            "the driver ended instead of mounting: {ended:?}"
        );
        assert!(mounted, "the driver did not mount");
        // Answered when kernel and driver have agreed. In the foreground nothing says when the kernel
        // knows whose the top directory is: it asks now.
        rustix::fs::stat(&self.merged).must();
    }

    fn attach(&mut self, file: &Path) {
        let pid = self.driver_pid().to_string();
        let notes = self.merged.with_file_name("strace.log");
        let mut strace = Command::new("strace");
        strace
            .args(super::trace::FLAGS)
            .arg("-o")
            .arg(file)
            .args(["-p", &pid]);
        self.tracer = Some(strace.stderr(File::create(&notes).must()).spawn().must());
        let attached = within(PATIENCE, || {
            std::fs::read_to_string(&notes).must().contains("attached")
        });
        assert!(attached, "strace did not attach");
    }

    /// Unmounts; waits while descriptors that are being closed keep the mount busy.
    fn unmount(&self) -> Result<(), String> {
        let mut last = String::new();
        let done = within(Duration::from_secs(2), || {
            if !is_mounted(&self.merged) {
                return true;
            }
            match self.mode {
                Mode::user => {
                    let mut command = Command::new("fusermount3");
                    let output = command.arg("-u").arg(&self.merged).output();
                    last = text(&output.must().stderr);
                }
                // Not umount(8): starting a program takes longer than all that it does here.
                Mode::root | Mode::userns => match unmount(&self.merged, UnmountFlags::NOFOLLOW) {
                    Ok(()) => return true,
                    Err(error) => last = error.to_string(),
                },
            }
            false
        });
        if done {
            return Ok(());
        }
        let lazily = match self.mode {
            Mode::user => Command::new("fusermount3")
                .args(["-uz"])
                .arg(&self.merged)
                .output(),
            Mode::root | Mode::userns => {
                Command::new("umount").arg("-l").arg(&self.merged).output()
            }
        };
        Err(format!(
            "could not unmount: {last}; lazily: {:?}",
            lazily.map(|done| done.status)
        ))
    }

    /// Ends the driver; tells what was wrong about its end.
    fn reap(child: Option<Child>, what: &str) -> Result<(), String> {
        let Some(mut child) = child else {
            return Ok(());
        };
        let mut status = None;
        within(PATIENCE, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{what} ended with {status}")),
            None => {
                drop(child.kill().and_then(|()| child.wait()));
                Err(format!("{what} did not end after the unmount"))
            }
        }
    }

    /// Returns what the driver has said so far.
    pub(crate) fn said(&self) -> String {
        text(&std::fs::read(&self.log).unwrap_or_default())
    }

    fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = text(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        let unmounted = self.unmount();
        let ended = Self::reap(self.driver.take(), "the driver");
        let traced = Self::reap(self.tracer.take(), "strace");
        let log = self.log_tail();
        let quiet = match log.contains("panicked") {
            true => Err("the driver panicked".to_owned()),
            false => Ok(()),
        };
        let problem = unmounted.and(ended).and(traced).and(quiet).err();
        if std::thread::panicking() || problem.is_some() {
            println!("--- the driver's log:\n{log}\n---");
        }
        match problem {
            Some(problem) if std::thread::panicking() => println!("{problem}"),
            Some(problem) => panic!("{problem}"),
            None => {}
        }
    }
}

/// A process that stands still until this is dropped, also when the test fails.
#[derive(Debug)]
pub(crate) struct Stopped(Pid);

impl Stopped {
    pub(crate) fn new(process: u32) -> Self {
        let process = Pid::from_raw(process.cast_signed()).expect("a process has a number");
        kill_process(process, Signal::STOP).must();
        Stopped(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that has ended meanwhile needs no more.
        let _ended = kill_process(self.0, Signal::CONT);
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.output().must();
    let error = text(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {} {error}",
        output.status
    );
}

/// Tells whether something is mounted at `path`, without asking what is mounted.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").must();
    let path = path.to_str().expect("scratch paths are ASCII");
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}
