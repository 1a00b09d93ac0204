// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects written as an export stream.
//!
//! Invariant: nothing is changed, and what is written is what the metadata says.

use super::opened::{mounted, store_dir};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::{Source, open_union};
use crate::nar::{ExportWriter, Place, dependencies_first};
use crate::store::ObjectName;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::AsFd;

/// Writes the valid objects `names` of the store `layout` to `out`, those first to which others
/// refer. What they refer to besides is not written.
pub fn export(layout: &Layout, names: &BTreeSet<ObjectName>, out: impl Write) -> Result<()> {
    mounted(layout)?;
    let dir = store_dir(layout)?;
    let metadata = open_union(layout)?;
    let mut objects = BTreeMap::new();
    for name in names {
        let Some(info) = metadata.path_info(name)? else {
            let what = format!("export {}", dir.store_path(name).display());
            return Err(Error::new(Kind::Negative, what, "it is not valid"));
        };
        objects.insert(name.clone(), info);
    }
    metadata.finish()?;
    // Who reads the stream may take his time.
    drop(metadata);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let merged = rustix::fs::open(&layout.merged, flags, Mode::empty())
        .map_err(|why| Error::on("open merged directory", &layout.merged, why))?;
    let mut writer = ExportWriter::new(out, "export stream", dir);
    for info in dependencies_first(&objects)? {
        let name = info.name.as_str().as_bytes();
        writer.object(info, &Place::new(merged.as_fd(), name, &layout.merged)?)?;
    }
    writer.finish().map(drop)
}
