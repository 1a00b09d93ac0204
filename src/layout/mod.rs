// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the directories of one local overlay store are, parsed once from any spelling.

use std::path::PathBuf;

/// How the metadata of the lower store is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LowerStore {
    /// Only the directory is known (mount options `lowerdir=`): no metadata source.
    Directory,
    /// A local store.
    Local {
        /// Its state directory (`…/nix/var/nix`).
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
}
