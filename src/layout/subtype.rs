// SPDX-License-Identifier: MIT OR Apache-2.0
//! The type of a FUSE mount: `fuse.overstore,lowerdir=L,upperdir=U`.
//!
//! The mount helper's library writes and reads it, for both backends; here is what mount(2) and
//! fusermount3 ask of it besides.

use crate::error::{Error, Result};
use overstore_mount::escape::escape_with_backslash;
use overstore_mount::view;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The longest filesystem type that mount(2) takes: a page less the NUL.
const TYPE_MAX_BYTES: usize = 4095;

/// Returns the filesystem type that names these layers, for mount(2).
pub fn fuse_type(lower: &Path, upper: &Path) -> Result<OsString> {
    let fs_type = view::fuse_type(lower, upper);
    if fs_type.len() > TYPE_MAX_BYTES {
        let what = format!(
            "mount layers {} and {}",
            super::shown(lower),
            super::shown(upper)
        );
        let why = format!(
            "their paths are {} bytes too long",
            fs_type.len() - TYPE_MAX_BYTES
        );
        return Err(Error::usage(what, why).hint("use shorter paths, such as bind mounts"));
    }
    Ok(fs_type)
}

/// Returns the value of `subtype=` or `fsname=` as `fusermount3 -o` takes it: commas and
/// backslashes each behind a backslash.
pub fn fusermount_value(value: &OsStr) -> OsString {
    OsString::from_vec(escape_with_backslash(value.as_bytes(), b"\\,"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use overstore_mount::escape::{split_unescaped, unescape_option_value};
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn path() -> impl Strategy<Value = PathBuf> {
        let special = prop::sample::select(b"\\,:# \t\n=upperdir".to_vec());
        let byte = prop_oneof![special, 1..=255u8];
        prop::collection::vec(byte, 1..64)
            .prop_map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    #[test]
    fn long_paths_are_refused() {
        let long = PathBuf::from(format!("/{}", "x".repeat(4090)));
        assert!(fuse_type(&long, Path::new("/u")).is_err());
    }

    proptest! {
        #[test]
        fn fusermount_values_round_trip(value in path()) {
            let text = fusermount_value(value.as_os_str());
            prop_assert_eq!(split_unescaped(text.as_bytes(), b',').len(), 1);
            let back = unescape_option_value(text.as_bytes()).unwrap();
            prop_assert_eq!(back, value.as_os_str().as_bytes());
        }
    }
}
