// SPDX-License-Identifier: MIT OR Apache-2.0
//! A view to read only: both layers are lowers of the overlay, the upper first.
//!
//! Invariant: the kernel has nowhere to write. With an upper directory it would write even for
//! readers (a work directory, marks in the upper); without one it reads the same markers.

use crate::context::{
    Context, Failed, Refusal, Way, attach, classic_options, first_of, mount_classic,
};
use crate::directory::{Directory, printable};
use crate::fault::Result;
use crate::overlap;
use crate::request::Markers;
use crate::spelling::lowers_string;
use crate::words::Attributes;
use rustix::fd::OwnedFd;
use std::path::PathBuf;

/// One view to be mounted for reading alone. It shows what a mount of the same layers shows that
/// may write, but for inode numbers: those of directories that merge and of objects that the
/// kernel once copied up are the upper's here and the lower's there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnly {
    /// The lower directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// The mountpoint.
    pub merged: PathBuf,
    /// Where the kernel keeps its markers.
    pub markers: Markers,
}

/// The directories, held.
struct Held<'a> {
    asked: &'a ReadOnly,
    lower: Directory,
    upper: Directory,
    merged: Directory,
}

impl ReadOnly {
    /// Checks the directories and mounts them.
    pub fn mount(&self) -> Result<()> {
        let held = self.hold()?;
        first_of(&[Way::Descriptors, Way::Classic], |way| held.mount_by(way)).map(drop)
    }

    /// Mounts by the new mount API with descriptors, or by mount(2); there is no other way.
    pub fn mount_by(&self, way: Way) -> Result<()> {
        self.hold()?.mount_by(way).map_err(|failed| failed.fault)
    }

    /// Finds the directories, and checks that they fit together.
    fn hold(&self) -> Result<Held<'_>> {
        let held = Held {
            asked: self,
            lower: Directory::find("lower directory", &self.lower)?,
            upper: Directory::find("upper directory", &self.upper)?,
            merged: Directory::find("mountpoint", &self.merged)?,
        };
        let pairs = [
            (&held.lower, &held.upper),
            (&held.merged, &held.lower),
            (&held.merged, &held.upper),
        ];
        for (one, other) in pairs {
            overlap::outside(one, other)?;
            overlap::outside(other, one)?;
        }
        for layer in [&held.lower, &held.upper] {
            layer.open().map(drop)?;
        }
        Ok(held)
    }
}

fn attributes() -> Attributes {
    let mut attributes = Attributes::default();
    attributes.apply(b"ro");
    attributes
}

impl Held<'_> {
    fn mount_by(&self, way: Way) -> std::result::Result<(), Failed> {
        match way {
            Way::Descriptors => self
                .configure()
                .and_then(|detached| attach(detached, &self.merged))
                .map_err(|why| self.refused(why)),
            Way::Paths | Way::Classic => self.classic(),
        }
    }

    /// By the new mount API, which takes layers by descriptor since Linux 6.13.
    fn configure(&self) -> std::result::Result<OwnedFd, Refusal> {
        let context = Context::open()?;
        for layer in [&self.upper, &self.lower] {
            context.descriptor("lowerdir+", layer)?;
        }
        context.mount(self.asked.markers, attributes())
    }

    /// By mount(2), which takes paths only.
    fn classic(&self) -> std::result::Result<(), Failed> {
        let options = lowers_string(&self.upper.path, &self.lower.path, self.asked.markers);
        let options = classic_options(options, &self.merged)?;
        for directory in [&self.lower, &self.upper, &self.merged] {
            directory.still_there()?;
        }
        mount_classic(&self.merged, &options, attributes()).map_err(|why| self.refused(why))
    }

    fn refused(&self, why: Refusal) -> Failed {
        let what = format!(
            "mount OverlayFS of {} over {}",
            printable(&self.upper.path),
            printable(&self.lower.path)
        );
        why.explain(what, None)
    }
}
