// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store opened for change: its directories, its metadata, and its place among other processes.
//!
//! Invariant: objects are made and removed through the merged view of the very layers that the
//! layout names, or in a directory that the user vouches for (`check-mount=false`); and nothing
//! refers to a lower object whose row is not in the upper database.

use crate::backend::mountinfo;
use crate::backend::status;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::{Change, Registration, Source, Union, Upper, lower};
use crate::nar::Place;
use crate::roots::{Interrupt, TempRoots, add_permanent_root};
use crate::store::derivation::{Derivation, is_derivation};
use crate::store::{ObjectName, Outputs, PathInfo, StoreDir};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The largest derivation that is read, in bytes.
const DERIVATION_BYTES: u64 = 64 << 20;

/// A store, open for change.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    dir: StoreDir,
    metadata: Union<Upper>,
    merged: OwnedFd,
    /// Where the view is mounted, if one is: it is told of changes behind its back.
    view: Option<PathBuf>,
    temp: TempRoots,
    interrupt: Interrupt,
}

impl Store {
    /// Opens the store `layout`; what it does then ends early when `interrupt` says so.
    ///
    /// # Errors
    /// Also where the merged view is not mounted, or that of other layers.
    pub fn open(layout: &Layout, interrupt: Interrupt) -> Result<Store> {
        let view = mounted(layout)?;
        let dir = store_dir(layout)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let merged = rustix::fs::open(&layout.merged, flags, Mode::empty())
            .map_err(|why| Error::on("open merged directory", &layout.merged, why))?;
        let upper = Upper::open_until(layout, &interrupt)?;
        let metadata = Union::new(Some(upper), lower::open_live(layout, &interrupt)?);
        let temp = match layout.state.as_deref() {
            Some(state) => TempRoots::open(state, &dir, interrupt.clone())?,
            None => TempRoots::none(),
        };
        Ok(Store {
            layout: layout.clone(),
            dir,
            metadata,
            merged,
            view,
            temp,
            interrupt,
        })
    }

    /// Returns the layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the logical store directory.
    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// Returns the metadata of both halves.
    pub fn metadata(&self) -> &Union<Upper> {
        &self.metadata
    }

    /// Returns the merged directory.
    pub fn merged(&self) -> BorrowedFd<'_> {
        self.merged.as_fd()
    }

    /// Returns what ends long work early.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Returns the name of an object, or of a temporary one, in the merged directory.
    pub fn place<'a>(&'a self, name: &'a [u8]) -> Result<Place<'a>> {
        Place::new(self.merged.as_fd(), name, &self.layout.merged)
    }

    /// Keeps `name` from being collected while this process lives: before anything is asked about
    /// it, or made of it.
    pub fn keep(&self, name: &ObjectName) -> Result<()> {
        self.temp.add(name)
    }

    /// Makes `link`, an absolute path, a link to `name` that keeps it from being collected.
    pub fn add_root(&self, link: &Path, name: &ObjectName) -> Result<()> {
        let state = self
            .layout
            .state
            .as_deref()
            .ok_or_else(|| Error::usage("add a root", "the store has no state directory"))?;
        add_permanent_root(state, &self.dir, &self.temp, link, name)
    }

    /// Makes one change of the upper database. What the lower says of single objects is given along.
    pub fn write<T>(
        &mut self,
        mut change: impl FnMut(&Change<'_>, Option<&dyn Source>) -> Result<T>,
    ) -> Result<T> {
        let (upper, lower) = self.metadata.halves_mut();
        let upper = upper.ok_or_else(|| Error::usage("write", "the store has no database"))?;
        match lower {
            Some(lower) => upper.write_with(lower, |within, lower| change(within, Some(lower))),
            None => upper.write(|within| change(within, None)),
        }
    }

    /// Registers objects that are in place, together with the rows of the lower to which they
    /// refer.
    ///
    /// # Errors
    /// Also a content address that does not lead to the object's name.
    pub fn register(&mut self, infos: Vec<PathInfo>) -> Result<()> {
        let mut batch = Vec::with_capacity(infos.len());
        for info in infos {
            self.check_address(&info)?;
            let outputs = self.known_outputs(&info.name)?;
            batch.push(Registration { info, outputs });
        }
        self.write(|change, lower| match lower {
            Some(lower) => change.register_merging(&batch, lower),
            None => change.register(&batch),
        })
    }

    /// Has the live view show what was changed behind its back, now.
    pub fn refresh_view(&self) -> Result<()> {
        self.view.as_deref().map_or(Ok(()), status::sync)
    }

    /// Whether a view of these layers is mounted, which can be told of changes.
    pub fn has_view(&self) -> bool {
        self.view.is_some()
    }

    /// Returns the outputs with known paths that the text of a derivation tells; nothing for other
    /// objects.
    pub fn known_outputs(&self, name: &ObjectName) -> Result<Outputs> {
        if !is_derivation(name) {
            return Ok(Outputs::new());
        }
        let path = self.layout.merged.join(name.as_str());
        let text = read_file(self.merged(), name.as_str(), &path)?;
        let derivation = Derivation::parse(&self.dir, &text).map_err(|why| {
            Error::new(
                Kind::Corrupt,
                format!("read derivation {}", path.display()),
                why,
            )
            .hint("add it again from where it came")
        })?;
        Ok(derivation.known_outputs())
    }

    fn check_address(&self, info: &PathInfo) -> Result<()> {
        match crate::store::make::reproduces(&self.dir, info) {
            None | Some(true) => Ok(()),
            Some(false) => {
                let path = self.dir.store_path(&info.name);
                let why = "its content address leads to another path";
                Err(Error::new(
                    Kind::Corrupt,
                    format!("register {}", path.display()),
                    why,
                ))
            }
        }
    }
}

/// Returns the logical store directory of `layout`.
pub fn store_dir(layout: &Layout) -> Result<StoreDir> {
    StoreDir::new(&layout.store_dir).ok_or_else(|| {
        let what = format!("store directory {}", layout.store_dir.display());
        Error::usage(what, "not an absolute path")
    })
}

/// Reads the regular file `name` in the directory `dir`; a derivation has no reason to be larger
/// than a limit.
pub fn read_file(dir: BorrowedFd<'_>, name: &str, path: &Path) -> Result<Vec<u8>> {
    let refused = |why: std::io::Error| Error::on("read", path, why);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|why| refused(why.into()))?;
    let file = File::from(file);
    let found = file.metadata().map_err(refused)?;
    if !found.is_file() {
        return Err(Error::on("read", path, "it is not a regular file"));
    }
    let mut text = Vec::new();
    let read = file.take(DERIVATION_BYTES + 1).read_to_end(&mut text);
    read.map_err(refused)?;
    if text.len() as u64 > DERIVATION_BYTES {
        let why = format!("it has more than {DERIVATION_BYTES} bytes");
        return Err(Error::on("read", path, why));
    }
    Ok(text)
}

/// Returns where the view of `layout` is mounted; `None` where the user vouches for the directory.
pub(super) fn mounted(layout: &Layout) -> Result<Option<PathBuf>> {
    let mounts = mountinfo::read()?;
    let entry = mountinfo::find(&mounts, &layout.merged);
    let view = entry.and_then(|entry| Some((entry, entry.merged_view()?.1)));
    match view {
        Some((entry, layers)) if layers.lower == layout.lower && layers.upper == layout.upper => {
            Ok(Some(entry.mount_point.clone()))
        }
        Some((_, layers)) if layout.check_mount => {
            let why = format!(
                "the view there has lower {} and upper {}",
                layers.lower.display(),
                layers.upper.display()
            );
            Err(unusable(layout, why))
        }
        None if layout.check_mount => Err(unusable(layout, "no merged view is mounted there")),
        _ => Ok(None),
    }
}

fn unusable(layout: &Layout, why: impl std::fmt::Display) -> Error {
    Error::on("use merged directory", &layout.merged, why)
        .hint("mount the store first: overstore mount URL (or say check-mount=false)")
}
