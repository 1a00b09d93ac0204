// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for anything that comes from outside: mount options, store URLs, lists of mounts,
//! archives, derivations, hashes, registrations, a daemon's answers.
//!
//! Each property takes bytes and panics if it does not hold. The fuzz targets look for bytes that
//! break them; `tests/fuzz_seeds.rs` tries those of `seeds/`, with what was found before.

mod aterm;
mod base32;
mod export;
mod mountinfo;
mod nar;
mod options;
mod registration;
mod url;
mod worker;

#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use aterm::aterm;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use base32::base32;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use export::export;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use mountinfo::mountinfo;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use nar::nar;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use options::options;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use registration::registration;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use url::url;
#[allow(unused_imports, reason = "each target has one property")]
pub(crate) use worker::worker;

use overstore::layout::{LayoutEnv, Probe};
use overstore::store::StoreDir;
use std::ffi::OsString;
use std::path::Path;

/// The helper's own reader, which is part of its program and not of its library.
#[path = "../../../mount-helper/src/bin/mount_overstore/options.rs"]
#[allow(
    dead_code,
    reason = "the words of the command line are read by other parts of that program"
)]
mod helper_options;

/// A host on which every path is there, so that nothing depends on the machine.
fn env() -> LayoutEnv {
    let vars = [(OsString::from("HOME"), OsString::from("/home/u"))];
    let probe = Probe {
        usable: |_| true,
        exists: |_| true,
    };
    LayoutEnv::new(vars, "/cwd".into(), false, probe)
}

/// The usual store directory.
fn store_dir() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).expect("it is absolute")
}

/// Messages are one line, whatever the input has in it.
fn one_line(message: &impl std::fmt::Display) {
    let message = message.to_string();
    assert!(!message.contains('\n'), "{message:?}");
}
