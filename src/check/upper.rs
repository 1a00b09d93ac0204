// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walking the upper, and what is found in one store object.
//!
//! Invariant: the work is bounded by the size of the upper: of the lower, only names that the upper
//! has too are asked for. No symlink is followed, and nothing is opened but directories.

use crate::layer::{Errno, Kind, Listed, Result, Stat, Tree};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Deeper than this Nix has no objects, and the descriptors would run out.
const DEPTH: usize = 400;

/// What was found in and below one name at the top of the upper. Paths are relative to the upper.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// 0/0 devices that hide a lower name.
    pub(super) whiteouts: Vec<PathBuf>,
    /// 0/0 devices that hide nothing.
    pub(super) stray: Vec<PathBuf>,
    /// Opaque directories that hide a lower directory, with the attribute's name.
    pub(super) opaque: Vec<(PathBuf, Vec<u8>)>,
    /// Other attributes of OverlayFS.
    pub(super) copied: Vec<(PathBuf, Vec<u8>)>,
    /// What is not read-only with mtime 1.
    pub(super) unsealed: Vec<PathBuf>,
    /// What could not be read.
    pub(super) unread: Vec<(PathBuf, String)>,
    /// Whiteouts and opaque directories of which nobody knows whether they hide something, with the
    /// reason.
    pub(super) unsure: Vec<(PathBuf, String)>,
}

/// Whether the lower has a directory to merge with.
type Merges = std::result::Result<bool, Unreadable>;

/// The two layers.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) upper: &'a Tree,
    /// `None` where it cannot be read.
    pub(super) lower: Option<&'a Tree>,
}

/// What the lower has where the upper has a directory.
#[derive(Debug, Clone, Copy)]
enum Below<'a> {
    /// A directory, which merges.
    Directory(BorrowedFd<'a>),
    /// Nothing that is shown.
    Nothing,
    /// Nobody knows: it could not be read, for this reason.
    Unknown(Unreadable),
}

/// Why the lower does not tell what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    /// It was not opened at all; that has been told.
    Whole,
    /// A directory or a name in it.
    Part(Errno),
}

impl Unreadable {
    fn why(self) -> String {
        match self {
            Unreadable::Whole => "the lower cannot be read".to_owned(),
            Unreadable::Part(errno) => format!("the lower's cannot be read: {errno}"),
        }
    }
}

/// One directory in both layers.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    upper: BorrowedFd<'a>,
    lower: Below<'a>,
    path: &'a Path,
    depth: usize,
}

impl Walk<'_> {
    /// Returns the names at the top of the upper, in order.
    pub(super) fn names(&self) -> Result<Vec<Vec<u8>>> {
        names(self.upper, self.upper.root().as_fd())
    }

    /// Returns the attributes of `name` at the top of the upper.
    pub(super) fn top(&self, name: &[u8]) -> Result<Option<Stat>> {
        self.upper.probe(self.upper.root().as_fd(), name)
    }

    /// Whether the lower has `name` at its top, or why that is not known.
    pub(super) fn lower_has(&self, name: &[u8]) -> std::result::Result<bool, String> {
        let lower = self.lower.ok_or_else(|| Unreadable::Whole.why())?;
        match lower.probe(lower.root().as_fd(), name) {
            Ok(found) => Ok(found.is_some_and(|stat| !stat.is_zero_device())),
            Err(errno) => Err(Unreadable::Part(errno).why()),
        }
    }

    /// Returns the attributes of OverlayFS of the upper directory itself.
    pub(super) fn of_top(&self) -> Result<Vec<Vec<u8>>> {
        self.upper.bookkeeping_at(self.upper.root().as_fd(), b".")
    }

    /// Examines everything in and below `name`.
    pub(super) fn object(&self, name: &[u8]) -> Object {
        let mut object = Object::default();
        let upper = self.upper.root();
        let lower = self.lower.map(Tree::root);
        let place = Place {
            upper: upper.as_fd(),
            lower: match &lower {
                Some(root) => Below::Directory(root.as_fd()),
                None => Below::Unknown(Unreadable::Whole),
            },
            path: Path::new(""),
            depth: 0,
        };
        self.entry(place, name, &mut object);
        object
    }

    fn entry(&self, place: Place<'_>, name: &[u8], object: &mut Object) {
        let path = place.path.join(OsStr::from_bytes(name));
        let unread = |errno: Errno| (path.clone(), errno.to_string());
        let stat = match self.upper.probe(place.upper, name) {
            Ok(Some(stat)) => stat,
            // Removed meanwhile.
            Ok(None) => return,
            Err(errno) => return object.unread.push(unread(errno)),
        };
        let below = self.lower_stat(place, name);
        if stat.is_zero_device() {
            return match below {
                Ok(Some(_)) => object.whiteouts.push(path),
                Ok(None) => object.stray.push(path),
                Err(unreadable) => object.unsure.push((path, unreadable.why())),
            };
        }
        if !is_sealed(&stat) {
            object.unsealed.push(path.clone());
        }
        let merges = below.map(|below| below.is_some_and(|below| below.kind == Kind::Directory));
        let opaque = match self.marks(place, name, merges, &path, object) {
            Ok(opaque) => opaque,
            Err(errno) => return object.unread.push(unread(errno)),
        };
        if stat.kind == Kind::Directory
            && let Err(errno) = self.directory(
                place,
                name,
                if opaque { Ok(false) } else { merges },
                &path,
                object,
            )
        {
            object.unread.push(unread(errno));
        }
    }

    /// Notes the marks of one object; tells whether it is opaque.
    fn marks(
        &self,
        place: Place<'_>,
        name: &[u8],
        merges: Merges,
        path: &Path,
        object: &mut Object,
    ) -> Result<bool> {
        let names = self.upper.bookkeeping_at(place.upper, name)?;
        if names.is_empty() {
            return Ok(false);
        }
        let is_opaque = self.upper.marks_at(place.upper, name)?.opaque;
        for name in names {
            // The kernel marks whatever directory it makes in a merged one, as it saves it a
            // lookup: only what hides something says more.
            match name.ends_with(b".opaque") {
                true if is_opaque => match merges {
                    Ok(true) => object.opaque.push((path.to_owned(), name)),
                    Ok(false) => {}
                    Err(unreadable) => object.unsure.push((path.to_owned(), unreadable.why())),
                },
                true => {}
                false => object.copied.push((path.to_owned(), name)),
            }
        }
        Ok(is_opaque)
    }

    fn directory(
        &self,
        place: Place<'_>,
        name: &[u8],
        merges: Merges,
        path: &Path,
        object: &mut Object,
    ) -> Result<()> {
        if place.depth >= DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        let upper = self.upper.open_dir(place.upper, name)?;
        let lower: std::result::Result<Option<OwnedFd>, Unreadable> = match merges {
            Ok(true) => self.lower_dir(place, name).map(Some),
            Ok(false) => Ok(None),
            Err(unreadable) => Err(unreadable),
        };
        let inside = Place {
            upper: upper.as_fd(),
            lower: match &lower {
                Ok(Some(directory)) => Below::Directory(directory.as_fd()),
                Ok(None) => Below::Nothing,
                Err(unreadable) => Below::Unknown(*unreadable),
            },
            path,
            depth: place.depth + 1,
        };
        for name in names(self.upper, upper.as_fd())? {
            self.entry(inside, &name, object);
        }
        Ok(())
    }

    /// What the lower shows under `name`.
    fn lower_stat(
        &self,
        place: Place<'_>,
        name: &[u8],
    ) -> std::result::Result<Option<Stat>, Unreadable> {
        let (lower, dir) = match (self.lower, place.lower) {
            (_, Below::Nothing) => return Ok(None),
            (_, Below::Unknown(unreadable)) => return Err(unreadable),
            (None, Below::Directory(_)) => return Err(Unreadable::Whole),
            (Some(lower), Below::Directory(dir)) => (lower, dir),
        };
        let found = lower.probe(dir, name).map_err(Unreadable::Part)?;
        Ok(found.filter(|stat| !stat.is_zero_device()))
    }

    fn lower_dir(&self, place: Place<'_>, name: &[u8]) -> std::result::Result<OwnedFd, Unreadable> {
        match (self.lower, place.lower) {
            (Some(lower), Below::Directory(dir)) => {
                lower.open_dir(dir, name).map_err(Unreadable::Part)
            }
            _ => Err(Unreadable::Whole),
        }
    }
}

/// What Nix leaves of a finished object: 0444 or 0555 (symlinks: any), and mtime 1.
fn is_sealed(stat: &Stat) -> bool {
    let mode = stat.kind == Kind::Symlink || stat.mode == 0o444 || stat.mode == 0o555;
    mode && stat.mtime.seconds == 1
}

fn names(tree: &Tree, dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    tree.read_dir::<Errno>(dir, 0, |entry| {
        if !entry.is_dots() {
            names.push(entry.name.to_vec());
        }
        Ok(Listed::More)
    })?;
    names.sort();
    Ok(names)
}

/// Returns an attribute's name as a word.
pub(super) fn word(name: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(name.to_vec())
}
