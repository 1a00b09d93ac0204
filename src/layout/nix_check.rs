// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether Nix's `check-mount` can find our mount.
//!
//! The mount helper's library knows what Nix does. Invariant: a layout that passes here passes there.

use super::Layout;
use crate::error::{Error, Result};
use overstore_mount::{NIX_CHECK_WAY_OUT, nix_cannot_find};
use std::path::Path;

/// Bytes that are escaped, by the kernel or by us, in the mount's type.
const TYPE_BYTES: &[u8] = b"#,";

pub(super) fn check(layout: &Layout) -> Result<()> {
    if !layout.check_mount {
        return Ok(());
    }
    check_path("merged directory", &layout.merged, &[])?;
    check_path("lower directory", &layout.lower, TYPE_BYTES)?;
    check_path("upper directory", &layout.upper, TYPE_BYTES)
}

fn check_path(role: &str, path: &Path, also: &[u8]) -> Result<()> {
    match nix_cannot_find(path, also) {
        None => Ok(()),
        Some(why) => {
            let what = format!("{role} {}", super::shown(path));
            Err(Error::usage(what, why).hint(NIX_CHECK_WAY_OUT))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::layout::tests::overlay;

    #[test]
    fn plain_paths_pass() {
        assert_eq!(
            overlay("/l/nix-2.3_x~@=", "/u/\u{e9}%", "/m:#,x").nix_check(),
            Ok(())
        );
    }

    #[test]
    fn every_byte_that_nix_trips_over_is_refused() {
        for byte in "+()[]*?{}|^$ \t\n\\".chars() {
            let bad = format!("/x{byte}y");
            for layout in [
                overlay(&bad, "/u", "/m"),
                overlay("/l", &bad, "/m"),
                overlay("/l", "/u", &bad),
            ] {
                assert!(layout.nix_check().is_err(), "{byte:?}");
            }
        }
        for byte in "#,".chars() {
            let bad = format!("/x{byte}y");
            assert!(overlay(&bad, "/u", "/m").nix_check().is_err(), "{byte:?}");
            assert!(overlay("/l", &bad, "/m").nix_check().is_err(), "{byte:?}");
        }
    }

    #[test]
    fn the_refusal_names_path_byte_and_way_out() {
        let error = overlay("/l", "/c++", "/m").nix_check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "upper directory /c++: Nix's mount check cannot find '+': it takes it for part of a \
             regular expression; rename it, or give Nix check-mount=false and mount with \
             -o nix-check=off"
        );
    }

    #[test]
    fn check_mount_false_asks_for_nothing() {
        let mut layout = overlay("/l", "/c++", "/m");
        layout.check_mount = false;
        assert_eq!(layout.nix_check(), Ok(()));
    }
}
