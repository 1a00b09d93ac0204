// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether Nix's `check-mount` can find a mount.
//!
//! Nix pastes the paths, unescaped, into regular expressions and searches `/proc/self/mounts`,
//! where some bytes are escaped. Invariant: paths that pass here are found there.

use crate::directory::printable;
use crate::fault::{Fault, Result};
use crate::request::Request;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes with a meaning in an ECMAScript regular expression, except `.`, which matches itself.
const REGEX_BYTES: &[u8] = b"+()[]*?{}|^$";

/// Bytes that the kernel shows as octal in a mount point.
const OCTAL_BYTES: &[u8] = b" \t\n\\";

/// What to do about a path that Nix cannot find.
pub const NIX_CHECK_WAY_OUT: &str =
    "rename it, or give Nix check-mount=false and mount with -o nix-check=off";

/// Says why Nix's check cannot find `path`, if it cannot; `also` are further bytes that are shown
/// escaped where it looks.
pub fn nix_cannot_find(path: &Path, also: &[u8]) -> Option<String> {
    path.as_os_str().as_bytes().iter().find_map(|byte| {
        let reason = if REGEX_BYTES.contains(byte) {
            "takes it for part of a regular expression"
        } else if OCTAL_BYTES.contains(byte) || also.contains(byte) {
            "does not know how it is escaped in /proc/self/mounts"
        } else {
            return None;
        };
        let byte = byte.escape_ascii();
        Some(format!(
            "Nix's mount check cannot find '{byte}': it {reason}"
        ))
    })
}

impl Request {
    /// Refuses paths that Nix's check cannot match.
    pub fn nix_check(&self) -> Result<()> {
        findable("mountpoint", &self.merged, b"")?;
        // A colon of the lower is listed with the backslash that the kernel was told it with.
        findable("lower directory", &self.lower, b"#,:")?;
        findable("upper directory", &self.upper, b"#,")
    }
}

fn findable(role: &str, path: &Path, also: &[u8]) -> Result<()> {
    match nix_cannot_find(path, also) {
        None => Ok(()),
        Some(why) => {
            let what = format!("{role} {}: {why}", printable(path));
            Err(Fault::usage(what).hint(NIX_CHECK_WAY_OUT))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_nix_trips_over_is_refused() {
        for byte in "+()[]*?{}|^$ \t\n\\#,:".bytes() {
            let path = format!("/x{}y", char::from(byte));
            assert!(findable("x", Path::new(&path), b"#,:").is_err(), "{path}");
        }
        assert_eq!(findable("x", Path::new("/l/nix-2.3_x~@="), b"#,:"), Ok(()));
    }
}
