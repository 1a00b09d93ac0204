// SPDX-License-Identifier: MIT OR Apache-2.0
//! Within what time a change of the layers must be seen, and how that is measured.
//!
//! The time runs from the return of the system call that made the change. Invariant: a check that
//! starts after the promised time must succeed, and so must every later one.

use crate::common::check::{Must, text};
use crate::common::fixture::Fixture;
use crate::common::mode::program;
use crate::common::mount::MountGuard;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where changes are told, they show within this time without a barrier.
const SOON: Duration = Duration::from_millis(50);
/// A look at the view, however much it asks, does not wait for anything.
const ANSWER: Duration = Duration::from_secs(1);
/// The lifetime with which views are mounted that are not told.
const TTL: Duration = Duration::from_millis(500);

/// Whether the driver is told of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Both layers are watched.
    AtOnce,
    /// Neither is; `lower-ttl` is what there is.
    Never,
}

impl Told {
    /// Mounts such a view.
    pub(crate) fn mount(self, fx: &Fixture) -> View {
        if fx.on_kernel() {
            fx.skip("the kernel's OverlayFS forbids its layers to change");
        }
        self.view("", |options| fx.mount_with(options))
    }

    /// Mounts such a view with further options.
    pub(crate) fn view(self, options: &str, mount: impl FnOnce(&str) -> MountGuard) -> View {
        let told = match self {
            Told::AtOnce => "watch=on",
            Told::Never => "watch=off,lower-ttl=500ms",
        };
        let mut options = [options, told].join(",");
        if options.starts_with(',') {
            options.remove(0);
        }
        let view = View {
            told: self,
            mount: mount(&options),
        };
        let said = status(&view.mount.path(""));
        assert_eq!(said["watched"], self == Told::AtOnce, "{said}");
        assert_eq!(
            said["unwatched-because"].is_string(),
            self == Told::Never,
            "{said}"
        );
        view
    }
}

/// A mounted view.
#[derive(Debug)]
pub(crate) struct View {
    told: Told,
    pub(crate) mount: MountGuard,
}

/// Why something is not seen yet.
pub(crate) type Seen = Result<(), String>;

impl View {
    /// Returns the path of `name` in the view.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mount.path(name)
    }

    /// Waits, by the barrier, until everything that happened before is visible.
    pub(crate) fn barrier(&self) {
        barrier(&self.path(""));
    }

    fn limit(&self) -> Duration {
        match self.told {
            Told::AtOnce => SOON,
            Told::Never => TTL,
        }
    }

    /// Requires that what happened before this call is seen within the promised time.
    #[track_caller]
    pub(crate) fn soon(&self, what: &str, seen: impl FnMut() -> Seen) {
        self.since(Instant::now(), what, seen);
    }

    /// The same for what happened at `start`.
    #[track_caller]
    pub(crate) fn since(&self, start: Instant, what: &str, mut seen: impl FnMut() -> Seen) {
        let waited = loop {
            let begun = start.elapsed();
            match seen() {
                Ok(()) => {
                    let took = start.elapsed() - begun;
                    assert!(
                        took <= ANSWER,
                        "{what}: the answer took {} ms",
                        took.as_millis()
                    );
                    break begun;
                }
                Err(why) => assert!(
                    begun <= self.limit(),
                    "{what}: {why}, {} ms after the change",
                    begun.as_millis()
                ),
            }
        };
        println!("{what}: seen after {} us", waited.as_micros());
        if let Err(why) = seen() {
            panic!("{what}: {why}, after it had been seen");
        }
    }

    /// Requires that what happened before this call is seen once a barrier has returned.
    #[track_caller]
    pub(crate) fn after_barrier(&self, what: &str, mut seen: impl FnMut() -> Seen) {
        self.barrier();
        if let Err(why) = seen() {
            panic!("{what}: {why}, after the barrier");
        }
    }

    /// Makes a change twice, with names of its own each time (`what`, and the tag that sets them
    /// apart): once it must be seen within the promised time, once after the barrier.
    #[track_caller]
    pub(crate) fn both_ways(&self, mut change: impl FnMut(&str), seen: impl Fn(&str) -> Seen) {
        change(TAGS[0]);
        self.soon("without the barrier", || seen(TAGS[0]));
        change(TAGS[1]);
        self.after_barrier("with the barrier", || seen(TAGS[1]));
        if let Err(why) = seen(TAGS[0]) {
            panic!("{why}, after it had been seen");
        }
    }
}

/// The tags of [`View::both_ways`].
pub(crate) const TAGS: [&str; 2] = ["alone", "barrier"];

/// Waits, by the barrier, until everything that happened before is visible in the view at `merged`.
pub(crate) fn barrier(merged: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(merged, flags, Mode::empty()).must();
    overstore::sys::control::barrier(top.as_fd()).must();
}

/// Returns what `overstore status --json` says of a view.
pub(crate) fn status(merged: &Path) -> serde_json::Value {
    let mut command = Command::new(program());
    let output = command.args(["status", "--json"]).arg(merged).output();
    let output = output.must();
    assert!(output.status.success(), "status: {}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).must();
    json.get(0).unwrap_or(&json).clone()
}

/// What `seen` closures say: nothing, or what is wrong.
pub(crate) fn expect(right: bool, wrong: impl FnOnce() -> String) -> Seen {
    if right { Ok(()) } else { Err(wrong()) }
}
