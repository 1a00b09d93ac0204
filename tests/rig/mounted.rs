// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performs operations by system calls under a mountpoint, of the driver or of the kernel.
//!
//! Invariant: an operation asks the view once; what the view answers is not interpreted.

use crate::common::check::{self, Must};
use crate::common::fixture::Fixture;
use crate::common::layer::LayerBuilder;
use crate::common::manifest::{self, Manifest};
use crate::common::mount::MountGuard;
use crate::generate::SLOTS;
use crate::model::change::{LATER_INSIDE, LATER_LENGTH};
use crate::op::{
    Access, Given, LATER_TIME, LOWER_TIME, Manner, NOWHERE, Op, Place, Side, Thing, UPPER_TIME,
    first_content, pattern,
};
use crate::outcome::{Entry, Outcome, Snapshot, data};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Who mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Fuse,
    Kernel,
}

/// A pair of layers and the view of them.
pub(crate) struct Mounted<'a> {
    fx: &'a Fixture,
    root: PathBuf,
    backend: Backend,
    /// Until the next mount a listing may tell the number of the duplicate that went.
    lost_a_duplicate: bool,
    lower: Manifest,
    slots: [Option<OwnedFd>; SLOTS],
    guard: Option<MountGuard>,
}

impl<'a> Mounted<'a> {
    /// Makes the layers under `name` of the scratch directory and mounts them.
    pub(crate) fn new(fx: &'a Fixture, name: &str, backend: Backend, given: &[Given]) -> Self {
        let root = fx.scratch(name);
        for directory in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(root.join(directory)).must();
        }
        for one in given {
            give(
                &LayerBuilder::new(root.join(side_name(one.side)), fx.family()),
                one,
            );
        }
        set_times(&root.join("lower"), LOWER_TIME);
        set_times(&root.join("upper"), UPPER_TIME);
        let lower = manifest::of(&root.join("lower"));
        let mut made = Mounted {
            fx,
            root,
            backend,
            lost_a_duplicate: false,
            lower,
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
        self.lost_a_duplicate = false;
        self.guard = Some(match backend {
            Backend::Fuse => MountGuard::driver(self.fx.mode(), &merged, &layers, None),
            Backend::Kernel => {
                layers += &format!(",workdir={}", path("work"));
                MountGuard::kernel(self.fx.mode(), &merged, &layers)
            }
        });
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
            Op::ReadDir(at) => read_dir(&self.path(at)).unwrap_or_else(Outcome::Failed),
            Op::Stat(at) => entry(&self.path(at)).map_or_else(Outcome::Failed, Outcome::Stat),
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

    fn open_now(&self, at: &Place, access: Access) -> Result<Option<OwnedFd>, Errno> {
        let path = self.path(at);
        if let Ok(found) = rustix::fs::lstat(&path) {
            let kind = FileType::from_raw_mode(found.st_mode);
            if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
                return Ok(None);
            }
        }
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::Both => OFlags::RDWR,
            Access::Append => OFlags::WRONLY | OFlags::APPEND,
            Access::Truncate => OFlags::RDWR | OFlags::TRUNC,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
        };
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(path, flags | always, Mode::from_raw_mode(0o644)).map(Some)
    }

    fn open(&mut self, slot: usize, at: &Place, access: Access) -> Outcome {
        self.slots[slot] = None;
        match self.open_now(at, access) {
            Ok(Some(file)) => {
                self.slots[slot] = Some(file);
                Outcome::Done
            }
            Ok(None) => Outcome::Nothing,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn truncate(&self, at: &Place, size: u64) -> Outcome {
        match self.open_now(at, Access::Write) {
            Ok(Some(file)) => rustix::fs::ftruncate(file, size).into(),
            Ok(None) => Outcome::Nothing,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn read(&self, slot: usize, offset: u64, length: u64) -> Outcome {
        let Some(file) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        let mut buffer = vec![0; length as usize];
        let mut filled = 0;
        loop {
            match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Outcome::Data(data(&buffer[..filled])),
                Ok(count) => filled += count,
                Err(error) => return Outcome::Failed(error),
            }
        }
    }

    fn write(&self, slot: usize, offset: u64, bytes: &[u8]) -> Outcome {
        let Some(file) = &self.slots[slot] else {
            return Outcome::Nothing;
        };
        let mut written = 0;
        loop {
            match rustix::io::pwrite(file, &bytes[written..], offset + written as u64) {
                Ok(count) => written += count,
                Err(error) => return Outcome::Failed(error),
            }
            if written == bytes.len() {
                return Outcome::Done;
            }
        }
    }

    /// Changes the layers behind the mount; afterwards the view must know.
    fn outside(&mut self, op: &Op) -> Outcome {
        self.slots = Default::default();
        if self.backend == Backend::Kernel {
            self.unmount();
        }
        let outcome = self.change_outside(op);
        self.lost_a_duplicate |= matches!(op, Op::OutsideRemoveDuplicate(_));
        self.lower = manifest::of(&self.root.join("lower"));
        match self.backend {
            Backend::Kernel => self.mount(Backend::Kernel),
            Backend::Fuse => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let top = rustix::fs::open(self.root.join("merged"), flags, Mode::empty()).must();
                overstore::sys::control::barrier(top.as_fd()).must();
            }
        }
        outcome
    }

    fn change_outside(&self, op: &Op) -> Outcome {
        let [at] = op.places()[..] else {
            return Outcome::Nothing;
        };
        let lower = LayerBuilder::new(self.root.join("lower"), self.fx.family());
        let name = under(Path::new(""), at);
        let (below, above) = (lower.path(&name), under(&self.root.join("upper"), at));
        let (below_kind, above_kind) = (check::kind_of(&below), check::kind_of(&above));
        if loses_a_link(op, &below, &above) {
            return Outcome::Nothing;
        }
        match (op, below_kind, above_kind) {
            (Op::OutsideAddLower(_, true), None, _) => {
                let staged = LayerBuilder::new(self.root.join("staged"), self.fx.family());
                let inside = OsStr::from_bytes(LATER_INSIDE);
                staged
                    .file(inside, pattern(LATER_LENGTH, 0))
                    .mtime(inside, LATER_TIME)
                    .mtime("", LATER_TIME);
                fs::rename(staged.path(""), below).must();
            }
            (Op::OutsideAddLower(_, false), None, _) => {
                lower
                    .file(&name, pattern(LATER_LENGTH, 0))
                    .mtime(&name, LATER_TIME);
            }
            (Op::OutsideRemoveDuplicate(_), Some(_), Some("dir")) => {
                fs::remove_dir_all(above).must()
            }
            (Op::OutsideRemoveDuplicate(_), Some(_), Some(kind)) if kind != "char" => {
                fs::remove_file(above).must()
            }
            (Op::OutsideReplaceLower(_), Some("file"), _) => {
                let staged = LayerBuilder::new(self.root.clone(), self.fx.family());
                staged
                    .file("staged", pattern(LATER_LENGTH, 1))
                    .mtime("staged", LATER_TIME);
                fs::rename(staged.path("staged"), below).must();
            }
            _ => return Outcome::Nothing,
        }
        Outcome::Done
    }

    /// Looks at everything that the view shows.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.look(&Place::default(), None, &mut snapshot);
        snapshot
    }

    fn look(&self, place: &Place, listed: Option<u64>, into: &mut Snapshot) {
        let path = self.path(place);
        let found = match entry(&path) {
            Ok(found) => found,
            // In a directory of the upper alone the kernel lists whiteouts that lead nowhere.
            Err(Errno::NOENT) if self.backend == Backend::Kernel => return,
            Err(error) => {
                return into
                    .faults
                    .push(format!("{place}: is listed, but: {error}"));
            }
        };
        let number = match fs::symlink_metadata(&path) {
            Ok(again) => again.ino(),
            Err(error) => return into.faults.push(format!("{place}: asked again: {error}")),
        };
        // The kernel lists a merged directory that it did not make with its upper side's number.
        let told = listed.filter(|_| self.backend == Backend::Fuse && !self.lost_a_duplicate);
        if told.is_some_and(|told| told != number) {
            into.faults
                .push(format!("{place}: number {number}, listed with {listed:?}"));
        }
        let is_dir = found.kind == "dir";
        if into.entries.insert(place.clone(), found).is_some() {
            into.faults.push(format!("{place}: listed twice"));
        }
        if !is_dir {
            return;
        }
        let listing: std::io::Result<Vec<_>> = fs::read_dir(&path).and_then(Iterator::collect);
        match listing {
            Ok(listing) => {
                for one in listing {
                    let inside = place.join(one.file_name().as_bytes());
                    self.look(&inside, Some(one.ino()), into);
                }
            }
            Err(error) => into.faults.push(format!("{place}: its listing: {error}")),
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

fn give(layer: &LayerBuilder, given: &Given) {
    let at = under(Path::new(""), &given.place);
    match &given.thing {
        Thing::Dir => layer.dir(at),
        Thing::Opaque => layer.opaque(at),
        Thing::File(length) => layer.file(at, first_content(given.side, &given.place, *length)),
        Thing::Link(from) => layer.hard_link(under(Path::new(""), from), at),
        Thing::Symlink => layer.symlink(at, OsStr::from_bytes(NOWHERE)),
        Thing::Fifo => layer.fifo(at),
        Thing::Whiteout => layer.whiteout(at),
    };
}

/// Tells whether a change behind the mount takes one of several names of an object: the number of
/// links of the others is not what these operations are about.
fn loses_a_link(op: &Op, below: &Path, above: &Path) -> bool {
    let goes = match op {
        Op::OutsideRemoveDuplicate(_) => above,
        Op::OutsideReplaceLower(_) => below,
        _ => return false,
    };
    check::kind_of(goes).is_some() && has_links(goes)
}

/// Tells whether an object, or one inside, has more than one name.
fn has_links(path: &Path) -> bool {
    let found = fs::symlink_metadata(path).must();
    match found.is_dir() {
        true => fs::read_dir(path)
            .must()
            .any(|entry| has_links(&entry.must().path())),
        false => found.nlink() > 1,
    }
}

fn set_times(path: &Path, time: i64) {
    if fs::symlink_metadata(path).must().is_dir() {
        for entry in fs::read_dir(path).must() {
            set_times(&entry.must().path(), time);
        }
    }
    check::set_mtime(path, time).must();
}

/// Describes an object, with what it holds.
fn entry(path: &Path) -> Result<Entry, Errno> {
    let found = fs::symlink_metadata(path).map_err(|error| errno(&error))?;
    let kind = check::kind(found.file_type());
    let content = match kind {
        "file" => Some(data(&fs::read(path).map_err(|error| errno(&error))?)),
        "symlink" => Some(data(
            fs::read_link(path)
                .map_err(|error| errno(&error))?
                .as_os_str()
                .as_bytes(),
        )),
        _ => None,
    };
    Ok(Entry {
        kind,
        mode: found.mode() & 0o7777,
        owner: (found.uid(), found.gid()),
        numbers: (!found.is_dir()).then(|| (found.size(), found.nlink())),
        mtime: Some(found.mtime()),
        content,
    })
}

fn read_dir(path: &Path) -> Result<Outcome, Errno> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| errno(&error))? {
        let entry = entry.map_err(|error| errno(&error))?;
        let kind = entry.file_type().map_err(|error| errno(&error))?;
        names.push((entry.file_name().into_vec(), check::kind(kind)));
    }
    names.sort();
    Ok(Outcome::Names(names))
}
