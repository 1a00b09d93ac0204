// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which mounts are merged views: by which backend, and of which layers.
//!
//! The FUSE driver's mounts name the layers in their type, `fuse.overstore,lowerdir=L,upperdir=U`:
//! the kernel shows everything behind the first dot as it was given. Overlays of the kernel name
//! them in their options. Invariant: commas and backslashes of the paths are escaped in both, so
//! that no path can pose as another field.

use crate::escape::{
    escape_with_backslash, split_unescaped, unescape_mount_field, unescape_option_value,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What every merged view is mounted with, as Nix's check wants it.
const SOURCE: &str = "overlay";

const PREFIX: &[u8] = b"fuse.overstore,lowerdir=";
const UPPER: &[u8] = b"upperdir=";

/// Which backend a merged view is served by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Our FUSE driver.
    Fuse,
    /// The kernel's OverlayFS.
    Kernel,
}

impl Backend {
    /// Returns the word for it on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Backend::Fuse => "fuse",
            Backend::Kernel => "kernel",
        }
    }
}

/// The layers of a merged view as its mount tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The lower store directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
}

/// Returns the filesystem type that names these layers, for mount(2).
pub fn fuse_type(lower: &Path, upper: &Path) -> OsString {
    let escape = |path: &Path| escape_with_backslash(path.as_os_str().as_bytes(), b"\\,");
    OsString::from_vec([PREFIX, &escape(lower), b",", UPPER, &escape(upper)].concat())
}

/// Returns the lower and upper directory that a filesystem type names; `None` if it is not one
/// of ours. Takes the type unescaped (see [`unescape_mount_field`]).
pub fn parse_fuse_type(fs_type: &OsStr) -> Option<(PathBuf, PathBuf)> {
    let rest = fs_type.as_bytes().strip_prefix(PREFIX)?;
    let [lower, upper] = split_unescaped(rest, b',')[..] else {
        return None;
    };
    let path = |text: &[u8]| {
        Some(PathBuf::from(OsString::from_vec(
            unescape_option_value(text).ok()?,
        )))
    };
    Some((path(lower)?, path(upper.strip_prefix(UPPER)?)?))
}

/// Returns the layers and the backend if a mount is a merged view: any mount of our driver, or an
/// overlay of the kernel with exactly one lower and an upper that Nix would accept. Takes source
/// and type unescaped; the options as the list has them, since only their escapes tell a comma in
/// a value from one between options.
pub fn view(source: &OsStr, fs_type: &OsStr, options: &OsStr) -> Option<(Backend, Layers)> {
    if source != SOURCE {
        return None;
    }
    if let Some((lower, upper)) = parse_fuse_type(fs_type) {
        return Some((Backend::Fuse, Layers { lower, upper }));
    }
    if fs_type != "overlay" {
        return None;
    }
    let layers = Layers {
        lower: only_lower(options)?,
        upper: upper_of_overlay(options)?,
    };
    Some((Backend::Kernel, layers))
}

/// Returns the upper directory of any overlay, also of one that is no view of ours.
pub(crate) fn upper(fs_type: &OsStr, options: &OsStr) -> Option<PathBuf> {
    match parse_fuse_type(fs_type) {
        Some((_, upper)) => Some(upper),
        None if fs_type == "overlay" => upper_of_overlay(options),
        None => None,
    }
}

/// Returns the values of an option the kernel shows for an overlay, in order.
fn values<'a>(options: &'a OsStr, name: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let options = options.as_bytes().split(|&byte| byte == b',');
    options.filter_map(move |option| option.strip_prefix(name).map(unescape_mount_field))
}

fn upper_of_overlay(options: &OsStr) -> Option<PathBuf> {
    values(options, UPPER).last().map(path)
}

/// Returns the lower of an overlay; `None` if there are several.
fn only_lower(options: &OsStr) -> Option<PathBuf> {
    // What is added one by one is listed plainly, and a list as it was written for the kernel:
    // `:` parts lowers, and a backslash stands before one that is part of a path.
    let mut lowers =
        values(options, b"lowerdir+=")
            .map(Some)
            .chain(values(options, b"lowerdir=").map(|list| {
                match split_unescaped(&list, b':')[..] {
                    [one] => unescape_option_value(one).ok(),
                    _ => None,
                }
            }));
    match (lowers.next(), lowers.next()) {
        (Some(Some(one)), None) => Some(path(one)),
        _ => None,
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_path() -> impl Strategy<Value = PathBuf> {
        let special = prop::sample::select(b"\\,:# \t\n=upperdir".to_vec());
        let byte = prop_oneof![special, 1..=255u8];
        prop::collection::vec(byte, 1..64).prop_map(path)
    }

    #[test]
    fn looks_as_nix_expects() {
        let fs_type = fuse_type(Path::new("/l/nix/store"), Path::new("/u"));
        assert_eq!(fs_type, "fuse.overstore,lowerdir=/l/nix/store,upperdir=/u");
    }

    #[test]
    fn other_types_are_not_ours() {
        for other in [
            "fuse",
            "fuse.overstore",
            "fuse.lowerdir=/l,upperdir=/u",
            "fuse.overstore,lowerdir=/l",
            "fuse.overstore,lowerdir=/l,upperdir=/u,x",
            "overlay",
        ] {
            assert_eq!(parse_fuse_type(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn overlays_of_the_kernel_are_views_with_one_lower_only() {
        let table: [(&str, Option<&str>); 7] = [
            ("rw,lowerdir=/a\\054b,upperdir=/u,x", Some("/a,b")),
            ("rw,lowerdir=/a\\134:b,upperdir=/u", Some("/a:b")),
            ("rw,lowerdir+=/a:b,upperdir=/u", Some("/a:b")),
            ("rw,lowerdir=/a:/b,upperdir=/u", None),
            ("rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u", None),
            ("rw,lowerdir=/a\\134,upperdir=/u", None),
            ("rw,lowerdir=/a", None),
        ];
        let overlay = OsStr::new("overlay");
        for (options, lower) in table {
            let found = view(overlay, overlay, options.as_ref());
            let expected = lower.map(|lower| {
                let (lower, upper) = (lower.into(), "/u".into());
                (Backend::Kernel, Layers { lower, upper })
            });
            assert_eq!(found, expected, "{options}");
            assert_eq!(view(OsStr::new("other"), overlay, options.as_ref()), None);
        }
    }

    proptest! {
        #[test]
        fn layers_round_trip(lower in any_path(), upper in any_path()) {
            let fs_type = fuse_type(&lower, &upper);
            prop_assert_eq!(super::upper(&fs_type, OsStr::new("rw")), Some(upper.clone()));
            prop_assert_eq!(parse_fuse_type(&fs_type), Some((lower, upper)));
        }
    }
}
