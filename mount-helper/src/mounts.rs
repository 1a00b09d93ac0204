// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mounts of this process's mount namespace, as far as they are needed here.
//!
//! Invariant: a line that is not understood is an error, as it might be the mount that is asked for.

use crate::escape::unescape_mount_field;
use crate::fault::{Fault, Result};
use crate::mountinfo::{self, Line};
use crate::view::{self, Backend};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The id of the mount this one stands on.
    pub(crate) parent: u64,
    pub(crate) point: PathBuf,
    /// The type, with its subtype, for messages.
    pub(crate) fs_type: String,
    /// Who serves it, if it is a merged view.
    pub(crate) view: Option<Backend>,
    /// The upper directory, of any overlay.
    pub(crate) upper: Option<PathBuf>,
}

/// Reads the mounts of this process's mount namespace.
pub(crate) fn read() -> Result<Vec<Mount>> {
    let text = mountinfo::read()
        .map_err(|why| Fault::system(format!("read {}: {why}; mount /proc", mountinfo::PATH)))?;
    mountinfo::lines(&text)
        .map(|line| match line {
            Ok(line) => Ok(mount(&line)),
            Err(line) => Err(Fault::system(format!(
                "read {}: no line of a mount: {}",
                mountinfo::PATH,
                line.escape_ascii()
            ))),
        })
        .collect()
}

fn mount(line: &Line<'_>) -> Mount {
    let unescaped = |field| OsString::from_vec(unescape_mount_field(field));
    let fs_type = unescaped(line.fs_type);
    let options = OsStr::from_bytes(line.super_options);
    Mount {
        id: line.id,
        parent: line.parent,
        point: PathBuf::from(unescaped(line.point)),
        view: view::view(&unescaped(line.source), &fs_type, options).map(|(backend, _)| backend),
        upper: view::upper(&fs_type, options),
        fs_type: fs_type.as_bytes().escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_points_and_uppers_as_they_are() {
        let text = br"40 1 0:35 / /m\040x rw shared:1 - overlay overlay rw,lowerdir=/l,upperdir=/u\054v,workdir=/w
41 1 0:36 / /n rw - fuse.overstore,lowerdir=/l,upperdir=/u\134,v overlay rw
42 1 0:37 / /o rw - overlay mine rw,lowerdir=/a:/b,upperdir=/c";
        let found = mountinfo::lines(text).map(|line| mount(&line.expect("a good line")));
        let found: Vec<_> = found
            .map(|mount| (mount.id, mount.point, mount.view, mount.upper))
            .collect();
        let mine = Some(PathBuf::from("/u,v"));
        assert_eq!(
            found,
            [
                (40, "/m x".into(), Some(Backend::Kernel), mine.clone()),
                (41, "/n".into(), Some(Backend::Fuse), mine),
                (42, "/o".into(), None, Some("/c".into())),
            ]
        );
    }
}
