// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lower stores that real Nix made, and on media that nobody can write: read whole, and left as they
//! were.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../common/check.rs"]
#[allow(dead_code, reason = "every test binary uses its own part")]
mod check;
#[path = "../common/manifest.rs"]
#[allow(dead_code, reason = "every test binary uses its own part")]
mod manifest;
mod media;
mod nix;
mod real;
#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;
mod users;

use manifest::Manifest;
use overstore::layout::{Layout, LayoutEnv, Probe};
use std::path::Path;

/// A store over the lower store that `lower` spells.
fn layout(lower: &str) -> Layout {
    let env = LayoutEnv::new([], "/".into(), true, Probe::host());
    let url = format!("local-overlay://?root=/nowhere&upper-layer=/none&lower-store={lower}");
    Layout::from_url(&url, &env).unwrap().0
}

/// What reading may not change. For root, SQLite gives a log and its index, on opening them, the
/// owner that they have: only the time of that is left out.
fn state(root: &Path) -> Manifest {
    let mut all = manifest::of(root);
    for (path, line) in &mut all {
        let name = path.as_os_str().as_encoded_bytes();
        if name.ends_with(b"-wal") || name.ends_with(b"-shm") {
            let (before, times) = line.split_once(" times ").unwrap();
            let (_, content) = times.split_once(" content ").unwrap();
            let modified: Vec<&str> = times.split(", ").take(2).collect();
            *line = format!("{before} modified {modified:?} content {content}");
        }
    }
    all
}
