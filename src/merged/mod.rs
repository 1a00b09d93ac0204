// SPDX-License-Identifier: MIT OR Apache-2.0
//! The merged filesystem: operations on nodes over an upper and a lower layer.

use crate::error::Result;
use std::path::PathBuf;
use std::time::Duration;

/// What the driver needs to know about one merged view.
#[derive(Debug, Clone)]
pub struct Options {
    /// The lower store directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// Whether real extended attributes are passed through (`-o xattr`).
    pub xattr: bool,
    /// How long the kernel may trust what can change behind the mount's back.
    pub lower_ttl: Duration,
}

/// A merged view that is ready to be served.
#[derive(Debug)]
pub struct MergedFs {}

impl MergedFs {
    /// Opens both layers. Do it before mounting, so that the mountpoint may cover a layer.
    pub fn open(_options: &Options) -> Result<MergedFs> {
        Ok(MergedFs {})
    }
}
