// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lower store directories that others serve: sshfs and a local sshd, bindfs, and a filesystem that
//! fails when it is told to; their servers are killed and started anew under load.
//!
//! "EIO and ESTALE from a network lower are retried once by path, then reported as what they are,
//! never as "does not exist", never cached, and a listing that failed half-way is an error, not a
//! short listing. A lower that is unmounted or comes back is survived."
//!
//! sshfs is tested as root and as a plain user. sshd does not serve root of a user namespace: it has
//! to change its groups, which is not allowed there. bindfs and the failing filesystem, which need
//! no sshd, are tested there as well.

#[path = "../common/mod.rs"]
mod common;

mod failing;
mod failing_listings;
mod load;
mod outage;
mod plain;
mod readers;
mod scripted;
mod server;
mod sshd;
mod unmounted;
mod world;
