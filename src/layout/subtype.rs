// SPDX-License-Identifier: MIT OR Apache-2.0
//! The type of a FUSE mount: `fuse.overstore,lowerdir=L,upperdir=U`.
//!
//! The kernel shows everything behind the first dot as it was given, so this is where Nix's
//! mount check and `overstore status` find the layers. Invariant: commas and backslashes of the
//! paths are escaped, so that no path can pose as another field.

use super::escape::{escape_with_backslash, split_unescaped, unescape_option_value};
use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const PREFIX: &[u8] = b"fuse.overstore,lowerdir=";
const UPPER: &[u8] = b"upperdir=";

/// The longest filesystem type that mount(2) takes: a page less the NUL.
const TYPE_MAX_BYTES: usize = 4095;

/// Returns the filesystem type that names these layers, for mount(2).
pub fn fuse_type(lower: &Path, upper: &Path) -> Result<OsString> {
    let escape = |path: &Path| escape_with_backslash(path.as_os_str().as_bytes(), b"\\,");
    let bytes = [PREFIX, &escape(lower), b",", UPPER, &escape(upper)].concat();
    if bytes.len() > TYPE_MAX_BYTES {
        let what = format!(
            "mount layers {} and {}",
            super::shown(lower),
            super::shown(upper)
        );
        let why = format!(
            "their paths are {} bytes too long",
            bytes.len() - TYPE_MAX_BYTES
        );
        return Err(Error::usage(what, why).hint("use shorter paths, such as bind mounts"));
    }
    Ok(OsString::from_vec(bytes))
}

/// Returns the lower and upper directory that a filesystem type names; `None` if it is not one
/// of ours. Takes the type unescaped (see [`super::unescape_mount_field`]).
pub fn parse_fuse_type(fstype: &OsStr) -> Option<(PathBuf, PathBuf)> {
    let rest = fstype.as_bytes().strip_prefix(PREFIX)?;
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

/// Returns the value of `subtype=` or `fsname=` as `fusermount3 -o` takes it: commas and
/// backslashes each behind a backslash.
pub fn fusermount_value(value: &OsStr) -> OsString {
    OsString::from_vec(escape_with_backslash(value.as_bytes(), b"\\,"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = PathBuf> {
        let special = prop::sample::select(b"\\,:# \t\n=upperdir".to_vec());
        let byte = prop_oneof![special, 1..=255u8];
        prop::collection::vec(byte, 1..64)
            .prop_map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    #[test]
    fn looks_as_nix_expects() {
        let fstype = fuse_type(Path::new("/l/nix/store"), Path::new("/u")).unwrap();
        assert_eq!(fstype, "fuse.overstore,lowerdir=/l/nix/store,upperdir=/u");
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
    fn long_paths_are_refused() {
        let long = PathBuf::from(format!("/{}", "x".repeat(4090)));
        assert!(fuse_type(&long, Path::new("/u")).is_err());
    }

    proptest! {
        #[test]
        fn layers_round_trip(lower in path(), upper in path()) {
            let fstype = fuse_type(&lower, &upper).unwrap();
            prop_assert_eq!(parse_fuse_type(&fstype), Some((lower, upper)));
        }

        #[test]
        fn fusermount_values_round_trip(value in path()) {
            let text = fusermount_value(value.as_os_str());
            prop_assert_eq!(split_unescaped(text.as_bytes(), b',').len(), 1);
            let back = unescape_option_value(text.as_bytes()).unwrap();
            prop_assert_eq!(back, value.as_os_str().as_bytes());
        }
    }
}
