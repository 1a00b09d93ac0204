// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts the merged view with kernel OverlayFS: one [`Request`] is checked, then mounted.
//!
//! Invariant: every directory is resolved once, by descriptor and without symlinks; what the kernel
//! is handed leads to what was checked. The mount shows the options that keep it equal to the FUSE
//! driver (no index, no redirects, no metadata copies), and the layers as Nix's check reads them.

mod attach;
mod check;
mod context;
mod directory;
pub mod escape;
mod fault;
mod identity;
mod leftovers;
mod lowers;
pub mod mountinfo;
mod mounts;
mod nix;
mod overlap;
mod privilege;
mod refresh;
mod request;
mod spelling;
pub mod view;
mod words;
mod work;

pub use check::Checked;
pub use context::{NO_OVERLAYFS, Way};
pub use directory::printable;
pub use fault::{Fault, Kind};
pub use identity::same_directory;
pub use leftovers::{Leftover, leftover};
pub use lowers::ReadOnly;
pub use nix::{NIX_CHECK_WAY_OUT, nix_cannot_find};
pub use privilege::{in_first_user_namespace, refuse_setuid};
pub use refresh::{Refreshed, refresh, remount, served_by, unmount};
pub use request::{Markers, Request};
pub use words::{Attributes, DriverOnly, is_for_others};
pub use work::{Wish, create_work, default_work};
