// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performs operations by system calls under a mountpoint, of the driver or of the kernel.
//!
//! Invariant: an operation asks the view once; what the view answers is not interpreted.

mod layers;
mod look;
mod open;
mod outside;

use crate::common::check::{self, Must};
use crate::common::layer::{Family, LayerBuilder};
use crate::common::manifest::{self, Manifest};
use crate::common::mode::Mode as TestMode;
use crate::common::mount::MountGuard;
use crate::generate::SLOTS;
use crate::op::{Given, LOWER_TIME, Manner, NOWHERE, Op, Place, Side, UPPER_TIME, pattern};
use crate::outcome::Outcome;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Who mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Fuse,
    Kernel,
}

/// Where layers are made, and by whom.
#[derive(Debug)]
pub(crate) struct Yard {
    mode: TestMode,
    family: Family,
    root: PathBuf,
}

impl Yard {
    /// Makes the directory `root`, for layers whose markers are of `family`.
    pub(crate) fn new(mode: TestMode, family: Family, root: PathBuf) -> Self {
        fs::create_dir_all(&root).must();
        Yard { mode, family, root }
    }

    /// Tells whether the kernel's OverlayFS can be mounted as well.
    pub(crate) fn has_kernel(&self) -> bool {
        self.mode.may_mount()
    }

    /// Tells whether it is root of the initial user namespace who mounts.
    pub(crate) fn is_privileged(&self) -> bool {
        self.mode.is_privileged()
    }

    /// Returns uid and gid of what is made.
    pub(crate) fn owner(&self) -> (u32, u32) {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    }
}

/// A pair of layers and the view of them.
pub(crate) struct Mounted<'a> {
    yard: &'a Yard,
    root: PathBuf,
    backend: Backend,
    lower: Manifest,
    /// What was removed behind the mount since it was made: names, and inode numbers.
    gone: (Vec<Place>, BTreeSet<u64>),
    slots: [Option<OwnedFd>; SLOTS],
    guard: Option<MountGuard>,
}

impl<'a> Mounted<'a> {
    /// Makes the layers under `name` and mounts them.
    pub(crate) fn new(yard: &'a Yard, name: &str, backend: Backend, given: &[Given]) -> Self {
        let root = yard.root.join(name);
        for directory in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(root.join(directory)).must();
        }
        for one in given {
            let layer = LayerBuilder::new(root.join(side_name(one.side)), yard.family);
            layers::give(&layer, one);
        }
        layers::set_times(&root.join("lower"), LOWER_TIME);
        layers::set_times(&root.join("upper"), UPPER_TIME);
        let lower = manifest::of(&root.join("lower"));
        let mut made = Mounted {
            yard,
            root,
            backend,
            lower,
            gone: Default::default(),
            slots: Default::default(),
            guard: None,
        };
        made.mount(backend);
        made
    }

    /// Mounts the layers, with any backend.
    pub(crate) fn mount(&mut self, backend: Backend) {
        self.unmount();
        let path = |name: &str| self.root.join(name).display().to_string();
        let mut layers = format!("lowerdir={},upperdir={}", path("lower"), path("upper"));
        let merged = self.root.join("merged");
        self.backend = backend;
        self.gone = Default::default();
        self.guard = Some(match backend {
            Backend::Fuse => MountGuard::driver(self.yard.mode, &merged, &layers, None),
            Backend::Kernel => {
                layers += &format!(",workdir={}", path("work"));
                MountGuard::kernel(self.yard.mode, &merged, &layers)
            }
        });
    }

    /// Tells who mounts the layers now.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    fn unmount(&mut self) {
        self.slots = Default::default();
        self.guard = None;
    }

    /// Lists what has changed in the lower since it was made, or changed behind the mount.
    pub(crate) fn lower_changes(&self) -> Vec<String> {
        manifest::differences(&self.lower, &manifest::of(&self.root.join("lower")))
    }

    fn path(&self, place: &Place) -> PathBuf {
        under(&self.root.join("merged"), place)
    }

    /// Does one operation.
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, at, access) => self.open(*slot, at, *access),
            Op::Read {
                slot,
                offset,
                length,
            } => self.read(*slot, *offset, *length),
            Op::Write {
                slot,
                offset,
                length,
                salt,
            } => self.write(*slot, *offset, &pattern(*length, *salt)),
            Op::Close(slot) => self.slots[*slot]
                .take()
                .map_or(Outcome::Nothing, |_| Outcome::Done),
            Op::Fsync(slot) => match &self.slots[*slot] {
                Some(file) => rustix::fs::fsync(file).into(),
                None => Outcome::Nothing,
            },
            Op::Truncate(at, size) => self.truncate(at, *size),
            Op::ReadDir(at) => look::read_dir(&self.path(at)).unwrap_or_else(Outcome::Failed),
            Op::Stat(at) => look::entry(&self.path(at)).map_or_else(Outcome::Failed, Outcome::Stat),
            Op::Remount => {
                self.mount(self.backend);
                Outcome::Done
            }
            _ if op.is_outside() => self.outside(op),
            _ => self.change(op).into(),
        }
    }

    /// Does what is one system call on names.
    fn change(&self, op: &Op) -> Result<(), Errno> {
        let file_mode = Mode::from_raw_mode(0o644);
        match op {
            Op::Create(at) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(self.path(at), flags, file_mode).map(drop)
            }
            Op::Mkdir(at) => rustix::fs::mkdir(self.path(at), Mode::from_raw_mode(0o755)),
            Op::Symlink(at) => rustix::fs::symlink(OsStr::from_bytes(NOWHERE), self.path(at)),
            Op::Fifo(at) => rustix::fs::mknodat(CWD, self.path(at), FileType::Fifo, file_mode, 0),
            Op::Device(at) => {
                rustix::fs::mknodat(CWD, self.path(at), FileType::CharacterDevice, file_mode, 0)
            }
            Op::Unlink(at) => rustix::fs::unlink(self.path(at)),
            Op::Rmdir(at) => rustix::fs::rmdir(self.path(at)),
            Op::Rename(from, to, manner) => {
                let flags = match manner {
                    Manner::Plain => RenameFlags::empty(),
                    Manner::NoReplace => RenameFlags::NOREPLACE,
                    Manner::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)
            }
            Op::Link(from, to) => rustix::fs::link(self.path(from), self.path(to)),
            Op::Chmod(at, mode) => rustix::fs::chmod(self.path(at), Mode::from_raw_mode(*mode)),
            Op::SetTimes(at, time) => {
                check::set_mtime(&self.path(at), *time).map_err(|error| errno(&error))
            }
            other => unreachable!("{other} is done elsewhere"),
        }
    }

    /// Unmounts, and removes the layers.
    pub(crate) fn remove(mut self) {
        self.unmount();
        fs::remove_dir_all(&self.root).must();
    }
}

fn under(root: &Path, place: &Place) -> PathBuf {
    let mut path = root.to_owned();
    path.extend(place.0.iter().map(|name| OsStr::from_bytes(name)));
    path
}

fn side_name(side: Side) -> &'static str {
    if side == Side::Lower {
        "lower"
    } else {
        "upper"
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
