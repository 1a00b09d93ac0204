// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this machine and one layout allow, found out by trying.
//!
//! Decides nothing: [`super::choose`] does. Invariants: a probe leaves nothing behind, answers in
//! time whatever hangs, and says "unknown" where it could not look, never "no".
//!
//! * `trial`: what can be tried, and the waiting for it, in a process of its own.
//! * `attempt`: the trying itself, in that process.
//! * `refusal`: which errors are a no, and which only kept it from looking.
//! * `scratch`: directories for a trial, removed whatever happens to it.

mod attempt;
mod refusal;
mod scratch;
mod trial;

pub use attempt::attempt;
pub use refusal::says_no;
pub use trial::{NO, Outcome, Space, Trial, UNKNOWN, Verdict};

use super::{Request, direct, fusermount};
use crate::error::Error;
use crate::layout::Layout;
use serde::Serialize;
use std::path::Path;

/// What a probe is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// This machine, and what this user may do on it.
    Machine,
    /// The directories of the layout.
    Layout,
}

/// One question and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Its name, which never changes.
    pub id: &'static str,
    /// What it is about.
    pub about: About,
    /// The answer.
    pub result: Outcome,
    /// What was seen, or why not.
    pub detail: String,
    /// What a yes is good for.
    pub means: &'static str,
}

impl Probe {
    fn new(id: &'static str, about: About, verdict: Verdict, means: &'static str) -> Probe {
        Probe {
            id,
            about,
            result: verdict.outcome,
            detail: verdict.detail,
            means,
        }
    }
}

/// Probes this machine.
pub fn machine() -> Vec<Probe> {
    let mut probes = vec![of_machine(
        "kernel",
        kernel(),
        "the version decides what follows",
    )];
    probes.extend(fuse());
    probes.extend([
        of_machine(
            "namespace",
            Trial::Namespace.verdict(),
            "`overstore run` works without privilege",
        ),
        of_machine(
            "overlay",
            Trial::Overlay(Space::Own).verdict(),
            "`overstore mount --backend kernel` may work",
        ),
        of_machine(
            "overlay-run",
            Trial::Overlay(Space::Run).verdict(),
            "`overstore run --backend kernel` may work",
        ),
    ]);
    probes
}

fn of_machine(id: &'static str, verdict: Verdict, means: &'static str) -> Probe {
    Probe::new(id, About::Machine, verdict, means)
}

/// Everything about FUSE.
fn fuse() -> Vec<Probe> {
    let own = Trial::Fuse(Space::Own).verdict();
    let in_run = Trial::Fuse(Space::Run).verdict();
    let best = match own.outcome {
        Outcome::Yes => &own,
        Outcome::No | Outcome::Unknown => &in_run,
    };
    let passthrough = passthrough(best);
    let privilege = Trial::Privilege.verdict();
    let table = [
        ("fuse-device", device(), "FUSE needs it, whoever mounts"),
        (
            "privilege",
            privilege,
            "mounting needs no helper program, and the kernel may be asked",
        ),
        ("fuse-mount", own, "`overstore mount` mounts FUSE by itself"),
        (
            "fusermount",
            scratch::fusermount(),
            "a plain user may `overstore mount`",
        ),
        (
            "fuse-run",
            in_run,
            "`overstore run` and root of a user namespace may use FUSE",
        ),
        (
            "fuse-passthrough",
            passthrough,
            "nothing yet: the driver does not use it",
        ),
    ];
    let probes = table.into_iter();
    probes
        .map(|(id, verdict, means)| of_machine(id, verdict, means))
        .collect()
}

/// Probes the directories of `request`.
pub fn layout(request: &Request) -> Vec<Probe> {
    let layout = &request.layout;
    let of = |id, verdict, means| Probe::new(id, About::Layout, verdict, means);
    let space = space_of_kernel();
    vec![
        of(
            "lower-kernel",
            lower(layout, space),
            "the kernel's OverlayFS can take the lower",
        ),
        of(
            "upper-kernel",
            upper(layout, space),
            "the kernel's OverlayFS can take the upper",
        ),
        of(
            "watch",
            Trial::Watch(&layout.upper, &layout.lower).verdict(),
            "changes of the layers show at once with FUSE; else after lower-ttl",
        ),
        of(
            "nesting",
            Verdict::from(layout.check_nesting(), "no directory lies inside another"),
            "either backend can mount it",
        ),
        of(
            "nix-check",
            nix_check(request),
            "Nix finds the mount with its own check-mount",
        ),
    ]
}

/// Whether the kernel's OverlayFS takes the lower of `layout`.
pub(super) fn lower(layout: &Layout, space: Space) -> Verdict {
    scratch::lower(&layout.lower, space)
}

/// Whether the kernel's OverlayFS takes an upper where the one of `layout` is.
pub(super) fn upper(layout: &Layout, space: Space) -> Verdict {
    scratch::upper(layout, space)
}

/// Opens the device.
pub(super) fn device() -> Verdict {
    match direct::open_device() {
        Ok(_) => Verdict::yes(format!("{} can be opened", direct::DEVICE)),
        Err(why) if refusal::is_missing(&why) || says_no(&why) => Verdict::no(why),
        Err(why) => Verdict::unknown(why),
    }
}

/// Whether `path` answers at all.
pub fn answers(path: &Path) -> Verdict {
    Trial::Look(path).verdict()
}

/// Where this user would have the kernel's OverlayFS mounted.
fn space_of_kernel() -> Space {
    match Trial::Overlay(Space::Own).verdict().outcome {
        Outcome::Yes => Space::Own,
        Outcome::No | Outcome::Unknown => Space::Run,
    }
}

/// Whether `fusermount3` is there and has the power it needs.
pub(super) fn fusermount_installed() -> Verdict {
    match fusermount::installed() {
        Ok(program) => Verdict::yes(format!("{} is set-user-id root", program.display())),
        Err(why) if why.errno().is_some() => Verdict::unknown(why),
        Err(why) => Verdict::no(why),
    }
}

fn nix_check(request: &Request) -> Verdict {
    let layout = &request.layout;
    if !layout.check_mount {
        return Verdict::yes("check-mount=false: Nix does not look");
    }
    Verdict::from(layout.nix_check(), "it can match these paths")
}

fn kernel() -> Verdict {
    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    match std::fs::read_to_string(RELEASE) {
        Ok(release) => Verdict::yes(format!("Linux {}", release.trim())),
        Err(why) => Verdict::unknown(Error::on("read", RELEASE, why)),
    }
}

/// The trial of FUSE tells of passthrough as well.
fn passthrough(fuse: &Verdict) -> Verdict {
    if fuse.outcome != Outcome::Yes {
        return Verdict::unknown("FUSE cannot be mounted directly here, and only that tells");
    }
    if fuse.detail.contains(attempt::PASSTHROUGH) {
        Verdict::yes("the kernel offers it (to root)")
    } else {
        Verdict::no("the kernel does not offer it (Linux 6.9 does)")
    }
}
