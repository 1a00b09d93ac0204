// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the layers that a specification gives.
//!
//! Invariant: every object in them has the modification time of its layer.

use super::under;
use crate::common::check::{self, Must};
use crate::common::layer::LayerBuilder;
use crate::op::{Given, NOWHERE, Thing, first_content};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes one object.
pub(super) fn give(layer: &LayerBuilder, given: &Given) {
    let at = under(Path::new(""), &given.place);
    match &given.thing {
        Thing::Dir => layer.dir(at),
        Thing::Opaque => layer.opaque(at),
        Thing::File(length) => layer.file(at, first_content(given.side, &given.place, *length)),
        Thing::Link(from) => layer.hard_link(under(Path::new(""), from), at),
        Thing::Symlink => layer.symlink(at, OsStr::from_bytes(NOWHERE)),
        Thing::Fifo => layer.fifo(at),
        Thing::Whiteout => layer.whiteout(at),
    };
}

/// Sets the times of a tree.
pub(super) fn set_times(path: &Path, time: i64) {
    if fs::symlink_metadata(path).must().is_dir() {
        for entry in fs::read_dir(path).must() {
            set_times(&entry.must().path(), time);
        }
    }
    check::set_mtime(path, time).must();
}
