// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's list of mounts, and which of them are merged views.
//!
//! Invariant: paths are the bytes the kernel means, unescaped; nothing here touches a mount.

use crate::error::{Error, Kind, Result};
use crate::layout::unescape_mount_field;
use crate::sys::mountinfo::{self, Line};
use overstore_mount::view::view;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use overstore_mount::view::{Backend, Layers};

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The mount id (reused by the kernel after an unmount).
    pub id: u64,
    /// The id of the mount this one stands on.
    pub parent: u64,
    /// The minor number of the filesystem, by which the kernel lists a FUSE connection.
    pub minor: u32,
    /// Where it is mounted, relative to the process's root.
    pub mount_point: PathBuf,
    /// Options of this mount (`rw,nosuid`).
    pub options: OsString,
    /// The filesystem type, with its subtype.
    pub fs_type: OsString,
    /// The source.
    pub source: OsString,
    /// Options of the filesystem (`lowerdir=...` for the kernel's overlay), still escaped, as
    /// only the escapes tell a comma in a value from one between options.
    pub super_options: OsString,
}

impl Entry {
    /// Returns the layers and the backend if this is a merged view: any mount of our driver, or
    /// an overlay of the kernel with exactly one lower and an upper that Nix would accept.
    pub fn merged_view(&self) -> Option<(Backend, Layers)> {
        view(&self.source, &self.fs_type, &self.super_options)
    }
}

/// Reads the mounts of this process's mount namespace.
pub fn read() -> Result<Vec<Entry>> {
    let text = mountinfo::read()
        .map_err(|why| Error::on("read", mountinfo::PATH, why).hint("mount /proc"))?;
    parse(&text)
}

/// Parses the text of a mountinfo file.
pub fn parse(text: &[u8]) -> Result<Vec<Entry>> {
    mountinfo::lines(text)
        .map(|line| {
            line.and_then(|line| entry(&line).ok_or(line.text))
                .map_err(|line| {
                    let shown = line.escape_ascii().to_string();
                    Error::new(
                        Kind::Environment,
                        format!("read {}", mountinfo::PATH),
                        shown,
                    )
                })
        })
        .collect()
}

fn entry(line: &Line<'_>) -> Option<Entry> {
    let device = std::str::from_utf8(line.device).ok()?;
    let (_, minor) = device.split_once(':')?;
    Some(Entry {
        id: line.id,
        parent: line.parent,
        minor: minor.parse().ok()?,
        mount_point: PathBuf::from(unescape(line.point)),
        options: unescape(line.options),
        fs_type: unescape(line.fs_type),
        source: unescape(line.source),
        super_options: OsStr::from_bytes(line.super_options).to_os_string(),
    })
}

/// Returns what a field stands for.
fn unescape(field: &[u8]) -> OsString {
    OsString::from_vec(unescape_mount_field(field))
}

/// Returns the topmost mount at `point`: the one that a path lookup arrives at.
pub fn topmost<'a>(mounts: &'a [Entry], point: &Path) -> Option<&'a Entry> {
    let here = || mounts.iter().filter(|entry| entry.mount_point == point);
    // The list is in order of ids, which the kernel reuses: only the parents tell the stacking.
    here().find(|entry| !here().any(|other| other.parent == entry.id && other.id != entry.id))
}

/// Finds the topmost mount at a path as a user spells it (relative, through symlinks), without
/// touching the mount itself as long as the spelling allows it: the driver may hang or be dead.
pub fn find<'a>(mounts: &'a [Entry], spelled: &Path) -> Option<&'a Entry> {
    let absolute = std::path::absolute(spelled).ok()?;
    if let Some(entry) = topmost(mounts, &absolute) {
        return Some(entry);
    }
    let parent = absolute.parent().and_then(|dir| dir.canonicalize().ok());
    if let (Some(parent), Some(name)) = (parent, absolute.file_name())
        && let Some(entry) = topmost(mounts, &parent.join(name))
    {
        return Some(entry);
    }
    topmost(mounts, &absolute.canonicalize().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::escape_mount_field;
    use proptest::prelude::*;

    fn at(id: u64, parent: u64, point: &str) -> Entry {
        Entry {
            id,
            parent,
            minor: 0,
            mount_point: point.into(),
            options: "rw".into(),
            fs_type: "tmpfs".into(),
            source: "tmpfs".into(),
            super_options: "rw".into(),
        }
    }

    #[test]
    fn reads_a_line_of_ours() {
        let text = b"59 28 0:47 / /m\\040x/s rw,relatime shared:5 master:1 - \
            fuse.overstore,lowerdir=/l\\040a\\134,b,upperdir=/u overlay rw,user_id=0\n";
        let entries = parse(text).expect("a well-formed line");
        assert_eq!(entries[0].mount_point, Path::new("/m x/s"));
        let (backend, layers) = entries[0].merged_view().expect("a merged view");
        assert_eq!(backend, Backend::Fuse);
        assert_eq!(layers.lower, Path::new("/l a,b"));
        assert_eq!(layers.upper, Path::new("/u"));
    }

    #[test]
    fn refuses_a_line_that_is_cut() {
        let error = parse(b"59 28 0:47 / /m rw").expect_err("no type");
        assert!(error.to_string().contains("59 28"), "{error}");
    }

    #[test]
    fn the_topmost_mount_is_told_by_parents_not_by_order() {
        let mounts = [at(5, 9, "/m"), at(9, 1, "/m"), at(7, 5, "/m/in")];
        assert_eq!(topmost(&mounts, Path::new("/m")).map(|e| e.id), Some(5));
        assert_eq!(topmost(&mounts, Path::new("/none")), None);
    }

    proptest! {
        #[test]
        fn any_path_survives_the_kernels_escapes(
            name in proptest::collection::vec(1u8..=255, 1..40),
            tags in 0usize..3,
        ) {
            let point = [b"/".as_slice(), &name].concat();
            let mut line = b"36 35 98:0 / ".to_vec();
            line.extend(escape_mount_field(&point));
            line.extend(b" rw,noatime ".iter());
            line.extend(b"master:1 ".repeat(tags));
            line.extend(b"- ".iter());
            let upper = Path::new(OsStr::from_bytes(&point));
            let kind = crate::layout::fuse_type(Path::new("/l"), upper).expect("short paths");
            line.extend(escape_mount_field(kind.as_bytes()));
            line.extend(b" overlay rw\n".iter());
            let entries = parse(&line).expect("a well-formed line");
            prop_assert_eq!(entries[0].mount_point.as_os_str().as_bytes(), &point);
            let (_, layers) = entries[0].merged_view().expect("a merged view");
            prop_assert_eq!(layers.upper.as_os_str().as_bytes(), &point);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&text));
        }
    }
}
