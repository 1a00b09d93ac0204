// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount itself, by the best interface that the kernel has.
//!
//! Invariant: the view is attached only when the paths that the kernel was told still lead to the
//! checked directories. The lower is told as `lowerdir=PATH`, which is the one spelling that Nix's
//! check finds in the list of mounts (`lowerdir+` is listed with its plus sign), and which takes no
//! descriptor; upper and work are told by descriptor, and listed by path all the same.

use crate::check::Checked;
use crate::context::{
    Context, Failed, Refusal, Way, attach, classic_options, first_of, mount_classic,
};
use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::identity::mount_id;
use crate::mounts;
use crate::spelling::{lower_value, option_string, upper_value};
use rustix::fd::OwnedFd;
use rustix::mount::{UnmountFlags, unmount};

impl Checked {
    /// Mounts, and tells by which way.
    pub fn mount(&self) -> Result<Way> {
        let ways = [Way::Descriptors, Way::Paths, Way::Classic];
        first_of(&ways, |way| self.try_way(way))
    }

    /// Mounts by one way alone.
    pub fn mount_by(&self, way: Way) -> Result<()> {
        self.try_way(way).map_err(|failed| failed.fault)
    }

    fn try_way(&self, way: Way) -> std::result::Result<(), Failed> {
        if way == Way::Classic {
            return self.classic();
        }
        let detached = self.configure(way).map_err(|why| self.refused(why))?;
        self.still_there()?;
        attach(detached, &self.merged).map_err(|why| self.refused(why))
    }

    fn still_there(&self) -> Result<()> {
        [&self.lower, &self.upper, &self.work, &self.merged]
            .into_iter()
            .try_for_each(|directory| directory.still_there())
    }

    /// Makes the mount without attaching it.
    fn configure(&self, way: Way) -> std::result::Result<OwnedFd, Refusal> {
        let context = Context::open()?;
        context.path("lowerdir", &lower_value(&self.lower.path))?;
        for (name, directory) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            match way {
                Way::Descriptors => context.descriptor(name, directory)?,
                _ => context.path(name, &upper_value(&directory.path))?,
            }
        }
        context.mount(self.request.markers, self.request.attributes)
    }

    /// By mount(2), which takes paths only: what it has mounted is looked at afterwards.
    fn classic(&self) -> std::result::Result<(), Failed> {
        let options = classic_options(option_string(&self.request), &self.merged)?;
        self.still_there()?;
        mount_classic(&self.merged, &options, self.request.attributes)
            .map_err(|why| self.refused(why))?;
        let layers = [&self.lower, &self.upper, &self.work];
        let swapped = layers.iter().find_map(|layer| layer.still_there().err());
        match swapped {
            // A mountpoint that was the lower itself now shows the view.
            Some(fault) if self.merged.identity != self.lower.identity => {
                Err(self.take_back(fault).into())
            }
            _ => Ok(()),
        }
    }

    /// Detaches the mount that was just made on the mountpoint, for the reason `fault`.
    fn take_back(&self, fault: Fault) -> Fault {
        let taken = self.just_made().and_then(|made| {
            unmount(made.by_descriptor(), UnmountFlags::DETACH)
                .map_err(|why| Fault::kernel("unmount it", why))
        });
        match taken {
            Ok(()) => fault,
            Err(why) => {
                let point = printable(&self.merged.path);
                fault.hint(format!("the view is left mounted at {point}: {why}"))
            }
        }
    }

    /// Finds the mount that was just made, unless others have changed what is at its path.
    fn just_made(&self) -> Result<Directory> {
        let found = Directory::find(self.merged.role, &self.merged.path)?;
        let (top, below) = (mount_id(&found.fd), mount_id(&self.merged.fd));
        let made = mounts::read()?.into_iter().any(|mount| {
            Some(mount.id) == top
                && Some(mount.parent) == below
                && mount.fs_type == "overlay"
                && mount.upper.as_ref() == Some(&self.upper.path)
        });
        if made {
            return Ok(found);
        }
        Err(Fault::mount(format!(
            "{} {}: something else is mounted there now",
            found.role,
            printable(&found.path)
        )))
    }

    fn refused(&self, why: Refusal) -> Failed {
        let what = format!("mount OverlayFS on {}", printable(&self.merged.path));
        why.explain(what, Some(&self.filesystems))
    }
}
