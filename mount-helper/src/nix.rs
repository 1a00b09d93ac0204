// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether Nix's `check-mount` can find a mount of the kernel.
//!
//! Nix pastes the paths, unescaped, into regular expressions and searches `/proc/self/mounts`.

use crate::directory::printable;
use crate::fault::{Fault, Result};
use crate::request::Request;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes with a meaning in an ECMAScript regular expression, except `.`, which matches itself, and
/// those that the kernel shows as octal.
const TRIPPED_OVER: &[u8] = b"+()[]*?{}|^$ \t\n\\";

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
    let bytes = path.as_os_str().as_bytes();
    let bad = |byte: &&u8| TRIPPED_OVER.contains(byte) || also.contains(byte);
    let Some(byte) = bytes.iter().find(bad) else {
        return Ok(());
    };
    Err(Fault::usage(format!(
        "{role} {}: Nix's mount check cannot find '{}'",
        printable(path),
        byte.escape_ascii()
    ))
    .hint("rename it, or give Nix check-mount=false and mount with -o nix-check=off"))
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
