// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount itself, by the best interface that the kernel has.
//!
//! Invariant: the view is attached only when the paths that the kernel was told still lead to the
//! checked directories. The lower is told as `lowerdir=PATH`, which is the one spelling that Nix's
//! check finds in the list of mounts (`lowerdir+` is listed with its plus sign), and which takes no
//! descriptor; upper and work are told by descriptor, and listed by path all the same.

use crate::check::{Checked, FUSE_CAN};
use crate::directory::{Directory, printable};
use crate::fault::{Fault, Result};
use crate::identity::mount_id;
use crate::mounts;
use crate::spelling::{lower_value, option_string, settings, upper_value};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// The longest value that the new mount API takes for one option.
const VALUE_BYTES: usize = 255;

/// The longest option string of mount(2): a page with its NUL.
const OPTIONS_BYTES: usize = 4095;

/// The interfaces that kernels have, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The new mount API, upper and work by descriptor (Linux 6.13).
    Descriptors,
    /// The new mount API with paths (Linux 6.5; with some paths 5.2).
    Paths,
    /// mount(2).
    Classic,
}

/// Why one way did not lead to the mount.
enum Refusal {
    /// This kernel, or what it does not allow, asks for another way.
    OtherWay(Fault),
    /// The length of a path does; the interface has nothing to say about it.
    TooLong(Fault),
    /// No way will do.
    Final(Fault),
}

impl Checked {
    /// Mounts, and tells by which way.
    pub fn mount(&self) -> Result<Way> {
        let mut first = None;
        for way in [Way::Descriptors, Way::Paths, Way::Classic] {
            match self.try_way(way) {
                Ok(()) => return Ok(way),
                // What the newest interface says about a refusal is the most exact.
                Err(Refusal::Final(fault)) => return Err(first.unwrap_or(fault)),
                Err(Refusal::OtherWay(fault)) => {
                    first.get_or_insert(fault);
                }
                Err(Refusal::TooLong(_)) => {}
            }
        }
        Err(first.unwrap_or_else(|| Fault::system("this kernel has no interface to mount")))
    }

    /// Mounts by one way alone.
    pub fn mount_by(&self, way: Way) -> Result<()> {
        self.try_way(way).map_err(|refusal| match refusal {
            Refusal::OtherWay(fault) | Refusal::TooLong(fault) | Refusal::Final(fault) => fault,
        })
    }

    fn try_way(&self, way: Way) -> std::result::Result<(), Refusal> {
        if way == Way::Classic {
            return self.classic().map_err(Refusal::Final);
        }
        let detached = self.configure(way)?;
        self.still_there().map_err(Refusal::Final)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(detached, "", &self.merged.fd, "", flags)
            .map_err(|why| Refusal::Final(self.refused(None, why)))
    }

    fn still_there(&self) -> Result<()> {
        [&self.lower, &self.upper, &self.work, &self.merged]
            .into_iter()
            .try_for_each(|directory| directory.still_there())
    }

    /// Makes the mount without attaching it.
    fn configure(&self, way: Way) -> std::result::Result<OwnedFd, Refusal> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|why| self.elsewhere(None, why))?;
        let told = |why| self.elsewhere(Some(kernel_message(&context)), why);
        let fs = context.as_fd();
        fsconfig_set_string(fs, "source", "overlay").map_err(told)?;
        self.set(fs, "lowerdir", &lower_value(&self.lower.path), &told)?;
        for (name, directory) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            match way {
                Way::Descriptors => fsconfig_set_fd(fs, name, &directory.fd).map_err(told)?,
                _ => self.set(fs, name, &upper_value(&directory.path), &told)?,
            }
        }
        for (name, value) in settings(self.request.markers) {
            match value {
                Some(value) => fsconfig_set_string(fs, *name, *value),
                None => fsconfig_set_flag(fs, *name),
            }
            .map_err(told)?;
        }
        for name in self.request.attributes.of_filesystem() {
            fsconfig_set_flag(fs, name).map_err(told)?;
        }
        fsconfig_create(fs).map_err(told)?;
        let attributes = self.request.attributes.of_mount();
        fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(told)
    }

    fn set(
        &self,
        fs: BorrowedFd<'_>,
        name: &str,
        value: &[u8],
        told: &impl Fn(Errno) -> Refusal,
    ) -> std::result::Result<(), Refusal> {
        if value.len() > VALUE_BYTES {
            return Err(Refusal::TooLong(self.refused(None, Errno::NAMETOOLONG)));
        }
        fsconfig_set_string(fs, name, OsStr::from_bytes(value)).map_err(told)
    }

    /// Decides whether an older interface is worth asking.
    fn elsewhere(&self, message: Option<String>, why: Errno) -> Refusal {
        let fault = self.refused(message, why);
        match why {
            // Seccomp filters of containers answer EPERM to calls that they do not know; a kernel
            // may want directories opened for more than to be held (EBADF).
            Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::BADF => Refusal::OtherWay(fault),
            _ => Refusal::Final(fault),
        }
    }

    /// By mount(2), which takes paths only: what it has mounted is looked at afterwards.
    fn classic(&self) -> Result<()> {
        let options = option_string(&self.request);
        if options.len() > OPTIONS_BYTES {
            let why = format!(
                "mount on {}: the paths of the layers are too long together",
                printable(&self.merged.path)
            );
            return Err(Fault::mount(why).hint(FUSE_CAN));
        }
        let data = CString::new(options).map_err(|_| Fault::usage("a path has a NUL byte"))?;
        let target = self.merged.by_descriptor();
        let flags = self.request.attributes.flags();
        self.still_there()?;
        mount("overlay", &target, "overlay", flags, data.as_c_str())
            .map_err(|why| self.refused(None, why))?;
        let layers = [&self.lower, &self.upper, &self.work];
        let swapped = layers.iter().find_map(|layer| layer.still_there().err());
        match swapped {
            // A mountpoint that was the lower itself now shows the view.
            Some(fault) if self.merged.identity != self.lower.identity => {
                Err(self.take_back(fault))
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

    /// Explains a refusal of the kernel, in its own words where it has some. `message` is empty
    /// if it was asked for them and had none.
    fn refused(&self, message: Option<String>, why: Errno) -> Fault {
        let what = format!("mount OverlayFS on {}", printable(&self.merged.path));
        let mut fault = match message.as_deref() {
            None | Some("") => Fault::kernel(what, why),
            Some(message) => Fault::kernel(format!("{what}: {message}"), why),
        };
        let [lower, upper] = &self.filesystems;
        if why == Errno::INVAL && message.as_deref() == Some("") {
            fault = fault.hint(in_the_log(lower, upper));
        }
        match why {
            Errno::NODEV => fault
                .hint("the kernel has no OverlayFS: as root run `modprobe overlay`")
                .hint(FUSE_CAN),
            Errno::PERM => fault.hint("run it as root, or use `overstore run`"),
            _ => fault.hint(format!(
                "the lower is on {lower}, the upper on {upper}; {FUSE_CAN}"
            )),
        }
    }
}

/// Says what the kernel wrote into its own log, where the reason can be told from the filesystems.
fn in_the_log(lower: &str, upper: &str) -> String {
    const WITHOUT_WHITEOUTS: [&str; 11] = [
        "fuse", "nfs", "cifs", "smb", "9p", "ceph", "virtiofs", "vfat", "msdos", "exfat", "ntfs",
    ];
    if WITHOUT_WHITEOUTS.iter().any(|kind| upper.starts_with(kind)) {
        format!("{upper} cannot rename with whiteouts, as OverlayFS wants of an upper")
    } else if lower == "overlay" {
        "OverlayFS stacks two deep at most, and the lower is an overlay already".to_owned()
    } else {
        "the kernel's log (dmesg) says why".to_owned()
    }
}

/// Reads the first line the kernel has written about this mount (`e message`); empty if none.
pub(crate) fn kernel_message(context: &OwnedFd) -> String {
    let mut text = [0_u8; 512];
    let length = rustix::io::read(context, &mut text).unwrap_or(0);
    let line = text.get(..length).unwrap_or_default().trim_ascii();
    let line = line.strip_prefix(b"e ").unwrap_or(line);
    line.escape_ascii().to_string()
}
