// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts the merged view with kernel OverlayFS: one [`Request`] is checked, then mounted.
//!
//! Invariant: every directory is resolved once, by descriptor and without symlinks; what the kernel
//! is handed leads to what was checked. The mount shows the options that keep it equal to the FUSE
//! driver (no index, no redirects, no metadata copies), and the layers as Nix's check reads them.

mod attach;
mod check;
mod directory;
mod escape;
mod fault;
mod identity;
mod lowers;
mod mounts;
mod nix;
mod overlap;
mod privilege;
mod refresh;
mod request;
mod work;

pub use attach::Way;
pub use check::Checked;
pub use directory::printable;
pub use fault::{Fault, Kind};
pub use lowers::ReadOnly;
pub use privilege::{in_first_user_namespace, refuse_setuid};
pub use refresh::{Refreshed, refresh, remount, unmount};
pub use request::{Attributes, Markers, Request};
pub use work::{create_work, default_work};
