// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one driver process: checks, mounting, serving, and the end by a signal.
//!
//! Invariant: the driver unmounts only on a signal or when its start fails, only the mount it made
//! (compared by mount id), and goes on serving until the kernel lets go of it.

use super::companion::{Companion, Work};
use super::daemon::Background;
use super::mountid::MountId;
use super::{MountSpec, Request, Way, attach, best_effort, fusermount, preflight, status};
use crate::error::{Error, Result};
use crate::fuse::{self, SessionOptions};
use crate::merged::{self, MergedFs};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How long a driver that was told to end waits for the last users of its mount.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the driver of `request` needs to know of it.
pub(super) fn merged_options(request: &Request) -> merged::Options {
    merged::Options {
        lower: request.layout.lower.clone(),
        upper: request.layout.upper.clone(),
        xattr: request.options.xattr,
        lower_ttl: request.options.lower_ttl,
        watch: request.options.watch,
        repair: request.options.repair,
        read_only: request.options.attributes.read_only(),
    }
}

/// Mounts and serves `request` in this process until it is unmounted.
///
/// `background` is told once the mount works; without it the process stays in the foreground.
/// `beside` is done by a process of its own, as long as the view is served.
pub fn serve(
    request: &Request,
    background: Option<Background>,
    beside: Option<Work<'_>>,
) -> Result<()> {
    let mountpoint = preflight::check(request)?;
    // Before this process has anything that another one must not have: threads, signals, a mount.
    let left = background.as_ref().map(Background::left);
    let beside = beside
        .map(|work| Companion::start(left, work))
        .transpose()?;
    let spec = MountSpec::new(request, mountpoint.merged.clone())?;
    // The layers are opened before the mount may cover one of them.
    let filesystem = MergedFs::open(&merged_options(request))?;
    prepare_process();
    if let Some(background) = &background {
        background.untie();
    }
    // Signals wait from here on: one that comes before the mount is done must still undo it.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|why| Error::environment("receive signals", why))?;
    let stop = signals.handle();
    let (device, way) = attach(&spec)?;
    let mount = OwnMount::just_made(spec.merged, way);
    drop(mountpoint);
    let again = || beside.as_ref().map(Companion::again).transpose();
    watch(signals, mount.clone(), again()?)?;
    let options = SessionOptions {
        threads: request.threads,
        status: status::driver_text(request, way, again()?),
    };
    let (merged, started) = (mount.merged.clone(), again()?);
    let served = fuse::serve(device, filesystem, options, move || {
        after_first_look(merged, move || {
            ready(background, &stop);
            if let Some(companion) = started {
                companion.mounted();
            }
        });
    });
    if let Some(companion) = beside {
        companion.dismiss();
    }
    if let Err(why) = &served {
        if !mount.is_there() {
            // Requests that an unmount cut off end the connection as an abort does.
            log::info!("the mount is gone: {why}");
            return Ok(());
        }
        // A session that failed leaves a dead mount behind.
        best_effort("unmount", mount.unmount());
    }
    log::info!("the mount is gone");
    served
}

/// Has the kernel ask for the top directory's attributes, then goes on; on a thread of its own,
/// because this one is about to answer. Until then the kernel takes the top directory for root's,
/// and its owner may not change it.
pub(super) fn after_first_look(merged: PathBuf, go_on: impl FnOnce() + Send + 'static) {
    let look = move || {
        best_effort("look at the mount", first_look(&merged));
        go_on();
    };
    let started = thread::Builder::new()
        .name("first-look".to_owned())
        .spawn(look);
    best_effort("start a thread", started.map(drop));
}

/// Has the kernel ask for the top directory's attributes. It drops an answer that a notice of a
/// change has overtaken, and keeps root's for the first one: who may not enter then looks again.
pub(super) fn first_look(merged: &Path) -> rustix::io::Result<()> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        rustix::fs::stat(merged)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(merged, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {}
            _ => break,
        }
    }
    Ok(())
}

/// Tells the starter; if it is gone (interrupted), nobody wants the mount.
fn ready(background: Option<Background>, handle: &Handle) {
    log::info!("mounted");
    if let Some(background) = background
        && !background.ready()
    {
        log::info!("the program that started the driver is gone");
        handle.close();
    }
}

/// The process becomes one that serves: no directory held, many files.
fn prepare_process() {
    best_effort("leave the current directory", rustix::process::chdir("/"));
    raise_file_limit();
}

/// Raises the soft limit of open files to the hard one: the driver keeps as many in use as the
/// limit allows, and no more than are of use.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    best_effort(
        "raise the limit of open files",
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        ),
    );
}

/// Waits for a signal on a thread of its own, then unmounts and bounds the wait for the end.
fn watch(mut signals: Signals, mount: OwnMount, beside: Option<Companion>) -> Result<()> {
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let first = signals.forever().next();
            log::info!("ending: signal {first:?}");
            if let Some(companion) = beside {
                // It may be using the view.
                companion.dismiss();
            }
            best_effort("unmount", mount.unmount());
            give_up_after(PATIENCE);
        })
        .map(drop)
        .map_err(|why| Error::environment("start a thread", why))
}

/// Ends the process after `patience`, unless serving has ended it before.
fn give_up_after(patience: Duration) -> ! {
    let deadline = std::time::Instant::now() + patience;
    while let Some(left) = deadline.checked_duration_since(std::time::Instant::now()) {
        thread::park_timeout(left);
    }
    log::warn!("ending although the mount is still in use");
    std::process::exit(0)
}

/// The mount that this process has made.
#[derive(Debug, Clone)]
pub struct OwnMount {
    merged: PathBuf,
    way: Way,
    id: Option<MountId>,
}

impl OwnMount {
    /// Remembers the mount that now stands at `merged`. Call it right after mounting.
    pub fn just_made(merged: PathBuf, way: Way) -> Self {
        let id = match MountId::of(&merged) {
            Ok(id) => Some(id),
            Err(why) => {
                log::warn!("no identity of the mount, it will not be unmounted: {why}");
                None
            }
        };
        OwnMount { merged, way, id }
    }

    /// Whether the mount is still the one at its path.
    fn is_there(&self) -> bool {
        self.id.is_some() && MountId::of(&self.merged).ok() == self.id
    }

    /// Detaches the mount if it is still the one at its path; another one is left alone.
    pub fn unmount(&self) -> Result<()> {
        if !self.is_there() {
            log::info!("{} is not our mount any more", self.merged.display());
            return Ok(());
        }
        match self.way {
            Way::Direct => {
                rustix::mount::unmount(&self.merged, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                    .map_err(|why| Error::on("unmount", &self.merged, io::Error::from(why)))
            }
            Way::Fusermount => fusermount::unmount(&self.merged, true),
        }
    }
}
