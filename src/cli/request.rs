// SPDX-License-Identifier: MIT OR Apache-2.0
//! From words, options and environment to one request.
//!
//! Decides where the store is told: by a URL, by options, by the environment, in this order.

use super::say;
use crate::backend::Request;
use crate::backend::mountinfo::{self, Entry};
use crate::error::{Error, Result};
use crate::layout::{
    Layout, LayoutEnv, MountOptions, Probe, Warning, escape_option_value, split_options,
};
use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::thread::available_parallelism;

/// What every store URL of this type begins with.
const SCHEME: &str = "local-overlay:";

/// More threads than this have nothing to do: the work is done by the layers' filesystems.
const MOST_THREADS: usize = 8;

/// What the command line says about the store.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// The positional arguments: a URL, a merged directory, or both.
    pub(super) words: [Option<&'a OsStr>; 2],
    /// The values of `-o`.
    pub(super) options: &'a [OsString],
}

/// How the store was told; what Nix would create for a URL is created for it here too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A store URL.
    Url,
    /// The directories, as mount options.
    Options,
}

/// Makes the request of `overstore mount`.
pub(super) fn for_mount(target: &Target<'_>) -> Result<(Request, Spelling)> {
    let env = surroundings()?;
    refuse_other_store(target.words[0])?;
    let (url, merged) = match target.words {
        [Some(first), second] if is_url(first) => (Some(first.to_os_string()), second),
        [first, None] if names_layers(target.options) => (None, Some(first.ok_or_else(no_merged)?)),
        [first, None] => (url_of_environment(), first),
        [_, Some(second)] => {
            let what = format!("argument {}", second.display());
            return Err(Error::usage(what, "unexpected after a merged directory"));
        }
    };
    let Some(url) = url else {
        let merged = merged.ok_or_else(no_store)?;
        let (layout, options) =
            Layout::from_mount_options(target.options, Path::new(merged), &env)?;
        return Ok((request(layout, options), Spelling::Options));
    };
    let (layout, options) = from_url(&url, target.options, &env)?;
    if let Some(merged) = merged {
        agree(&layout, &env.cwd().join(merged))?;
    }
    Ok((request(layout, options), Spelling::Url))
}

/// A word that is meant for a store URL but is another one's is no directory.
fn refuse_other_store(word: Option<&OsStr>) -> Result<()> {
    let Some(word) = word.filter(|word| !is_url(word)) else {
        return Ok(());
    };
    let text = word.as_encoded_bytes();
    let stores: [&[u8]; 4] = [b"local-overlay", b"local", b"daemon", b"auto"];
    if stores.contains(&text) || text.windows(3).any(|part| part == b"://") {
        return Err(not_our_url(word));
    }
    Ok(())
}

fn not_our_url(word: &OsStr) -> Error {
    let what = format!("store URL {}", word.display());
    Error::usage(what, format!("does not begin with {SCHEME}"))
}

/// Makes the request of `overstore run`.
pub(super) fn for_run(target: &Target<'_>) -> Result<(Request, Spelling)> {
    let env = surroundings()?;
    let url = match target.words[0] {
        Some(word) if is_url(word) => Some(word.to_os_string()),
        Some(word) => return Err(not_our_url(word).hint("the command comes after `--`")),
        None if names_layers(target.options) => None,
        None => Some(url_of_environment().ok_or_else(no_store)?),
    };
    if let Some(url) = url {
        let (layout, options) = from_url(&url, target.options, &env)?;
        return Ok((request(layout, options), Spelling::Url));
    }
    let (mut layout, options) = Layout::from_mount_options(target.options, Path::new("/"), &env)?;
    layout.merged = layout.store_dir.clone();
    Ok((request(layout, options), Spelling::Options))
}

/// Makes the request of `overstore compare`, which takes a live view for its layers as well.
pub(super) fn for_compare(target: &Target<'_>) -> Result<Request> {
    let [Some(word), _] = target.words else {
        return Ok(for_run(target)?.0);
    };
    if is_url(word) {
        return Ok(for_run(target)?.0);
    }
    refuse_other_store(Some(word))?;
    if names_layers(target.options) {
        let what = format!("argument {}", word.display());
        return Err(Error::usage(
            what,
            "unexpected beside -o lowerdir=,upperdir=",
        ));
    }
    let merged = Path::new(word);
    let layers = mountinfo::find(&mountinfo::read()?, merged)
        .and_then(Entry::merged_view)
        .map(|(_, layers)| layers);
    let layers = layers.ok_or_else(|| {
        let what = format!("layers of {}", merged.display());
        Error::usage(what, "no merged view is mounted there")
            .hint("name them: -o lowerdir=/l/nix/store,upperdir=/u, or a store URL")
    })?;
    let mut options = target.options.to_vec();
    for (name, path) in [("lowerdir", &layers.lower), ("upperdir", &layers.upper)] {
        let mut option = OsString::from(format!("{name}="));
        option.push(OsString::from_vec(escape_option_value(
            path.as_os_str().as_bytes(),
        )));
        options.push(option);
    }
    let (layout, options) = Layout::from_mount_options(&options, merged, &surroundings()?)?;
    Ok(request(layout, options))
}

fn request(layout: Layout, options: MountOptions) -> Request {
    let processors = available_parallelism().map_or(1, NonZero::get);
    Request {
        layout,
        options,
        threads: processors.clamp(1, MOST_THREADS),
    }
}

fn surroundings() -> Result<LayoutEnv> {
    let cwd = std::env::current_dir().map_err(|why| {
        Error::environment("find the current directory", why)
            .hint("it was removed: start from another one")
    })?;
    let is_root = rustix::process::geteuid().is_root();
    Ok(LayoutEnv::new(
        std::env::vars_os(),
        cwd,
        is_root,
        Probe::host(),
    ))
}

fn from_url(url: &OsStr, options: &[OsString], env: &LayoutEnv) -> Result<(Layout, MountOptions)> {
    let text = url.to_str().ok_or_else(|| {
        Error::usage(format!("store URL {}", url.display()), "not UTF-8")
            .hint("write other bytes as %XX")
    })?;
    let (layout, options, warnings) = Layout::from_url_and_options(text, options, env)?;
    warnings.iter().for_each(warn);
    Ok((layout, options))
}

fn warn(warning: &Warning) {
    say(&format!("warning: {warning}"));
}

/// A merged directory beside a URL may only say the same again.
fn agree(layout: &Layout, merged: &Path) -> Result<()> {
    if merged.components().eq(layout.merged.components()) {
        return Ok(());
    }
    Err(Error::usage(
        format!("merged directory {}", merged.display()),
        format!("the store URL names {}", layout.merged.display()),
    )
    .hint("leave it out, or add `real=DIR` to the URL"))
}

fn is_url(word: &OsStr) -> bool {
    word.as_bytes().starts_with(SCHEME.as_bytes())
}

fn names_layers(options: &[OsString]) -> bool {
    options.iter().any(|list| {
        split_options(list.as_bytes())
            .into_iter()
            .any(|option| option.starts_with(b"lowerdir=") || option.starts_with(b"upperdir="))
    })
}

fn url_of_environment() -> Option<OsString> {
    std::env::var_os("OVERSTORE_STORE")
        .filter(|url| !url.is_empty())
        .or_else(|| std::env::var_os("NIX_REMOTE").filter(|url| is_url(url)))
}

fn no_store() -> Error {
    Error::usage("store", "none is given").hint(
        "for example 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u', or \
         -o lowerdir=/l/nix/store,upperdir=/u",
    )
}

fn no_merged() -> Error {
    Error::usage("merged directory", "none is given")
        .hint("for example: overstore mount -o lowerdir=/l/nix/store,upperdir=/u /m/nix/store")
}
