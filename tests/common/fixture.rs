// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test body works with: two layers, a merged directory, and what must hold at the end.
//!
//! Invariant: when a body has ended well, the lower layer is what it was at the last mount, and
//! the upper layer holds no marker that it did not hold then.

use super::check::Must;
use super::layer::{Family, LayerBuilder};
use super::manifest::{self, Manifest};
use super::mode::{self, Mode};
use super::mount::MountGuard;
use super::trace;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Set to `kernel` to run the same bodies on the kernel's OverlayFS: reading must agree.
const BACKEND: &str = "OVERSTORE_TEST_BACKEND";

/// What the end of a test is compared with.
#[derive(Debug)]
struct Before {
    lower: Manifest,
    markers: Vec<String>,
}

/// The directories of one test.
#[derive(Debug)]
pub(crate) struct Fixture {
    mode: Mode,
    root: PathBuf,
    name: String,
    before: RefCell<Option<Before>>,
    traces: RefCell<Vec<PathBuf>>,
    opaque: RefCell<Vec<String>>,
}

impl Fixture {
    pub(crate) fn new(mode: Mode, scratch: &Path, name: &str) -> Self {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        Fixture {
            mode,
            root: scratch.join("work"),
            name: name.replace("::", "."),
            before: RefCell::new(None),
            traces: RefCell::new(Vec::new()),
            opaque: RefCell::default(),
        }
    }

    /// Returns the mode this test runs in.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Tells whether the kernel's OverlayFS is mounted instead of the driver.
    pub(crate) fn on_kernel(&self) -> bool {
        std::env::var_os(BACKEND).is_some_and(|name| name == OsStr::new("kernel"))
    }

    /// Ends the test as skipped.
    pub(crate) fn skip(&self, why: &str) -> ! {
        mode::skip(why)
    }

    /// Returns a path in the scratch directory, which the test's user owns.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the family of markers that this mode may write.
    pub(crate) fn family(&self) -> Family {
        match self.mode.is_privileged() {
            true => Family::Trusted,
            false => Family::User,
        }
    }

    /// Returns the lower layer. A filesystem of its own may be mounted at its parent, `low`.
    pub(crate) fn lower(&self) -> LayerBuilder {
        LayerBuilder::new(self.root.join("low/lower"), self.family())
    }

    /// Returns the upper layer. A filesystem of its own may be mounted at its parent, `up`.
    pub(crate) fn upper(&self) -> LayerBuilder {
        LayerBuilder::new(self.root.join("up/upper"), self.family())
    }

    /// Mounts both layers without further options.
    pub(crate) fn mount(&self) -> MountGuard {
        self.mount_with("")
    }

    /// Mounts both layers with the further mount options `options` (`xattr`).
    pub(crate) fn mount_with(&self, options: &str) -> MountGuard {
        let lower = self.lower().path("");
        let upper = self.upper().path("");
        *self.before.borrow_mut() = Some(Before {
            lower: manifest::of(&lower),
            markers: manifest::markers(&upper),
        });
        let merged = self.root.join("merged");
        std::fs::create_dir_all(&merged).must();
        let mut layers = format!("lowerdir={},upperdir={}", trim(&lower), trim(&upper));
        if self.on_kernel() {
            let work = self.root.join("up/work");
            std::fs::create_dir_all(&work).must();
            layers += &format!(",workdir={}", trim(&work));
            return MountGuard::kernel(self.mode, &merged, &layers);
        }
        if !options.is_empty() {
            layers += &format!(",{options}");
        }
        let count = self.traces.borrow().len();
        let trace = trace::directory()
            .map(|directory| directory.join(format!("{}.{count}.strace", self.name)));
        self.traces.borrow_mut().extend(trace.clone());
        MountGuard::driver(self.mode, &merged, &layers, trace)
    }

    /// Takes the lower as it is now for the state to keep: the test itself has just changed it.
    pub(crate) fn lower_changed_outside(&self) {
        if let Some(before) = self.before.borrow_mut().as_mut() {
            before.lower = manifest::of(&self.lower().path(""));
        }
    }

    /// Requires that `name` of the upper, and nothing else that is new, is marked opaque at the end.
    pub(crate) fn will_be_opaque(&self, name: &str) {
        let mark = format!("{name}: {}=y", self.family().attribute("opaque"));
        self.opaque.borrow_mut().push(mark);
    }

    /// Runs a shell script as another user, with `umask 022`.
    pub(crate) fn shell_as(&self, uid: u32, gid: u32, script: &str) -> Output {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"));
        command.arg("--clear-groups").args(["sh", "-euc", script]);
        command.current_dir(&self.root).output().must()
    }

    /// Requires what must hold after every test.
    pub(crate) fn finish(&self) {
        if let Some(before) = self.before.borrow_mut().take() {
            let lower = manifest::of(&self.lower().path(""));
            let changed = manifest::differences(&before.lower, &lower);
            assert!(changed.is_empty(), "the lower changed: {changed:#?}");
            let markers = manifest::markers(&self.upper().path(""));
            let new: Vec<_> = markers
                .iter()
                .filter(|mark| !before.markers.contains(mark))
                .collect();
            let expected = self.opaque.borrow();
            let same =
                new.len() == expected.len() && expected.iter().all(|mark| new.contains(&mark));
            assert!(
                self.on_kernel() || same,
                "new markers in the upper: {new:#?} instead of {expected:#?}"
            );
        }
        for log in self.traces.borrow().iter() {
            let allowed = [self.upper().path(""), self.root.join("driver")];
            trace::only_the_upper_is_written(log, &allowed);
        }
    }
}

fn trim(path: &Path) -> String {
    let text = path.to_str().expect("scratch paths are ASCII");
    text.trim_end_matches('/').to_owned()
}
