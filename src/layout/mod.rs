// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the directories of one local overlay store are, parsed once from any spelling.
//!
//! Decides from text alone; whether the directories exist and fit is for `backend` to find.
//! Invariant: one value, however it was spelled, so that no other room reads URLs or options.

mod env;
mod lower;
mod nesting;
mod nix_check;
mod options;
mod settings;
mod subtype;
mod url;

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use env::{LayoutEnv, Probe};
pub use lower::OtherStore;
pub use options::{DEFAULT_LOWER_TTL, LayerOptions, MountOptions, layer_options, parse_options};
pub use overstore_mount::Attributes;
pub use overstore_mount::escape::{
    BadOptionEscape, escape_mount_field, escape_option_value, split_options, unescape_mount_field,
    unescape_option_value,
};
pub use overstore_mount::view::parse_fuse_type;
pub use settings::Settings;
pub use subtype::{fuse_type, fusermount_value};

/// How the metadata of the lower store is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LowerStore {
    /// Only the directory is known (mount options `lowerdir=`): no metadata source.
    Directory,
    /// A local store.
    Local {
        /// Its state directory (`.../nix/var/nix`).
        state: PathBuf,
        /// Whether the URL said `read-only=true`.
        read_only: bool,
    },
    /// A daemon, reached through its socket.
    Daemon {
        /// The Unix socket.
        socket: PathBuf,
    },
    /// Another local overlay store, itself a whole layout.
    Overlay(Box<Layout>),
}

/// One local overlay store: the four directories, the logical store directory and the state.
///
/// Invariant: every path is absolute and lexically canonical (no `.`, `..`, `//`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The lower store directory, never modified.
    pub lower: PathBuf,
    /// Where the lower store's metadata comes from.
    pub lower_store: LowerStore,
    /// The upper directory, which holds everything new.
    pub upper: PathBuf,
    /// The scratch directory that kernel OverlayFS wants on the upper's filesystem.
    pub work: Option<PathBuf>,
    /// The directory on which the merged view is mounted (Nix's `real`).
    pub merged: PathBuf,
    /// The logical store directory written in store paths, usually `/nix/store`.
    pub store_dir: PathBuf,
    /// Nix's state directory, which holds the upper database; `None` for mount options.
    pub state: Option<PathBuf>,
    /// Whether Nix's `check-mount` would be done (URL setting, default true).
    pub check_mount: bool,
    /// Nix's `read-only` setting.
    pub read_only: bool,
    /// What else the URL said.
    pub settings: Settings,
}

/// Something a user should know about a layout that is good all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(String);

impl Warning {
    fn new(text: impl fmt::Display) -> Warning {
        Warning(text.to_string())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Layout {
    /// Returns the layout of the store that Nix opens for `url`, and what Nix or its user
    /// would trip over.
    pub fn from_url(url: &str, env: &LayoutEnv) -> Result<(Layout, Vec<Warning>)> {
        url::parse(url, env)
    }

    /// Returns the layout with these settings, given plain (not encoded), as a URL would have
    /// them: `[("lower-store", "/l"), ("upper-layer", "/u"), ...]`.
    pub fn from_settings(
        settings: &[(&str, OsString)],
        env: &LayoutEnv,
    ) -> Result<(Layout, Vec<Warning>)> {
        url::from_settings(settings, env)
    }

    /// Returns the layout of `-o lowerdir=L,upperdir=U[,workdir=W] MERGED`; each of `options`
    /// is one `-o` argument, and what is given later wins.
    pub fn from_mount_options(
        options: &[OsString],
        merged: &Path,
        env: &LayoutEnv,
    ) -> Result<(Layout, MountOptions)> {
        let (layers, mount) = parse_options(options)?;
        Ok((layers.into_layout(merged, env)?, mount))
    }

    /// Returns the layout of `url` mounted with `options`, which may add `workdir=` but no
    /// other directory.
    pub fn from_url_and_options(
        url: &str,
        options: &[OsString],
        env: &LayoutEnv,
    ) -> Result<(Layout, MountOptions, Vec<Warning>)> {
        let (layers, mount) = parse_options(options)?;
        let (mut layout, warnings) = Layout::from_url(url, env)?;
        layers.add_to(&mut layout, env)?;
        Ok((layout, mount, warnings))
    }

    /// Returns the directory on which the kernel backend works: the given one, else a sibling
    /// of the upper (`UPPER.work`), which is on the same filesystem unless the upper is a mount.
    pub fn work_or_default(&self) -> PathBuf {
        self.work.clone().unwrap_or_else(|| {
            let mut path = self.upper.clone().into_os_string();
            path.push(".work");
            PathBuf::from(path)
        })
    }

    /// Refuses directories that lie inside each other where that cannot work.
    pub fn check_nesting(&self) -> Result<()> {
        nesting::check(self)
    }

    /// Refuses paths that Nix's mount check cannot match; nothing to refuse if the URL says
    /// `check-mount=false`.
    pub fn nix_check(&self) -> Result<()> {
        nix_check::check(self)
    }

    /// Returns the filesystem type to mount with, which tells Nix the layers.
    pub fn fuse_type(&self) -> Result<OsString> {
        fuse_type(&self.lower, &self.upper)
    }
}

/// Reports a wrong `name=value` of a URL or an option list.
fn bad_value(kind: &str, name: &[u8], value: &[u8], why: impl fmt::Display) -> Error {
    Error::usage(
        format!("{kind} {}={}", name.escape_ascii(), value.escape_ascii()),
        why,
    )
}

/// Returns `path` for a message: bytes that are not printable ASCII are escaped.
fn shown(path: &Path) -> std::slice::EscapeAscii<'_> {
    path.as_os_str().as_bytes().escape_ascii()
}

#[cfg(test)]
mod tests;
