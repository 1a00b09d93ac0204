// SPDX-License-Identifier: MIT OR Apache-2.0
//! From words, options and environment to one request.

use crate::backend::Request;
use crate::error::{Error, Result};
use crate::layout::{Layout, LowerStore};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// What the command line says about the store.
pub(super) struct Target<'a> {
    /// The positional arguments: a URL, a merged directory, or both.
    pub(super) words: [Option<&'a OsStr>; 2],
    /// The values of `-o`.
    pub(super) options: &'a [OsString],
}

/// Makes the request of `overstore mount`.
pub(super) fn for_mount(target: &Target<'_>) -> Result<Request> {
    let mut lower = None;
    let mut upper = None;
    let joined = target.options.join(OsStr::new(","));
    let text = joined.to_str().ok_or_else(|| Error::usage("-o", "bytes"))?;
    let mut xattr = false;
    for option in text.split(',') {
        match option.split_once('=') {
            Some(("lowerdir", value)) => lower = Some(PathBuf::from(value)),
            Some(("upperdir", value)) => upper = Some(PathBuf::from(value)),
            None if option == "xattr" => xattr = true,
            _ => return Err(Error::usage(format!("mount option {option}"), "unknown")),
        }
    }
    let absolute = |path: Option<PathBuf>, what: &str| {
        let path = path.ok_or_else(|| Error::usage(what.to_owned(), "missing"))?;
        std::path::absolute(&path).map_err(|why| Error::on("resolve", &path, why))
    };
    Ok(Request {
        layout: Layout {
            lower: absolute(lower, "lowerdir")?,
            lower_store: LowerStore::Directory,
            upper: absolute(upper, "upperdir")?,
            work: None,
            merged: absolute(target.words[0].map(PathBuf::from), "MERGED")?,
            store_dir: "/nix/store".into(),
            state: None,
            check_mount: true,
            read_only: false,
        },
        xattr,
        lower_ttl: Duration::from_secs(1),
        allow_other: None,
        read_only: false,
        nosuid_nodev: false,
        nix_check: true,
        threads: 4,
    })
}

pub(super) fn for_run(target: &Target<'_>) -> Result<(Request, PathBuf)> {
    let mut r = for_mount(&Target {
        words: [Some(OsStr::new("/nix/store")), None],
        options: target.options,
    })?;
    r.layout.merged = r.layout.store_dir.clone();
    let w = r.layout.upper.with_extension("work");
    Ok((r, w))
}
