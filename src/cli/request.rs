// SPDX-License-Identifier: MIT OR Apache-2.0
//! From words, options and environment to one request.
//!
//! Decides where the store is told: by a URL, by options, by the environment, in this order.

use super::say;
use crate::backend::Request;
use crate::backend::mountinfo;
use crate::check::Subject;
use crate::error::{Error, Result};
use crate::layout::{
    Layout, LayoutEnv, MountOptions, Probe, Warning, layer_options, split_options,
};
use crate::operations::query::Place;
use crate::operations::store_dir;
use crate::store::ObjectName;
use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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
    /// What is said about them.
    pub(super) say: Say,
}

/// Whether warnings about the store are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// On standard error.
    Warnings,
    /// They were said before.
    Nothing,
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
    let (layout, options) = from_url(&url, target, &env)?;
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
        let (layout, options) = from_url(&url, target, &env)?;
        return Ok((request(layout, options), Spelling::Url));
    }
    let (mut layout, options) = Layout::from_mount_options(target.options, Path::new("/"), &env)?;
    layout.merged = layout.store_dir.clone();
    Ok((request(layout, options), Spelling::Options))
}

/// Finds the store whose metadata is asked: that of `--store`, else of the environment.
pub(super) fn for_query(url: Option<&OsStr>) -> Result<Layout> {
    let url = match url {
        Some(word) if is_url(word) => word.to_os_string(),
        Some(word) => return Err(not_our_url(word)),
        None => url_of_environment().ok_or_else(no_store_url)?,
    };
    let target = Target {
        words: [None, None],
        options: &[],
        say: Say::Warnings,
    };
    Ok(from_url(&url, &target, &surroundings()?)?.0)
}

/// Finds what `overstore check` is about: `None` if nothing tells of a store.
pub(super) fn for_check(word: Option<&OsStr>, options: &[OsString]) -> Result<Option<Subject>> {
    if word.is_none() && !names_layers(options) && url_of_environment().is_none() {
        return Ok(None);
    }
    if let Some(merged) = word.filter(|word| !is_url(word) && !names_layers(options))
        && let Some(live) = of_live_view(merged, options)?
    {
        return Ok(Some(live));
    }
    if let Some(merged) = word.filter(|word| !is_url(word) && !names_layers(options))
        && url_of_environment().is_none()
    {
        refuse_other_store(Some(merged))?;
        return Err(no_view(merged));
    }
    let (request, spelling) = for_mount(&Target {
        words: [word, None],
        options,
        say: Say::Warnings,
    })?;
    let url = match spelling {
        Spelling::Options => None,
        Spelling::Url => word
            .filter(|word| is_url(word))
            .map(OsStr::to_os_string)
            .or_else(url_of_environment),
    };
    let mut mount_words: Vec<OsString> = Vec::new();
    for list in options {
        mount_words.extend(["-o".into(), list.clone()]);
    }
    mount_words.extend(url.clone().or_else(|| word.map(OsStr::to_os_string)));
    Ok(Some(Subject {
        request,
        mount_words,
        url: url.and_then(|url| url.into_string().ok()),
    }))
}

/// A mounted view, as the list of mounts tells it.
struct Live {
    merged: PathBuf,
    /// Its layers as one list of mount options.
    layers: OsString,
}

/// Finds the view that is mounted on `merged`.
fn live_view(merged: &OsStr) -> Result<Option<Live>> {
    let mounts = mountinfo::read()?;
    let found = mountinfo::find(&mounts, Path::new(merged));
    Ok(found.and_then(|entry| {
        let (_, layers) = entry.merged_view()?;
        Some(Live {
            merged: entry.mount_point.clone(),
            layers: layer_options(&layers.lower, &layers.upper),
        })
    }))
}

/// The layout of a mounted view, as its mount tells it: unless the environment has a URL for it,
/// which tells more.
fn of_live_view(merged: &OsStr, options: &[OsString]) -> Result<Option<Subject>> {
    let Some(live) = live_view(merged)? else {
        return Ok(None);
    };
    let env = surroundings()?;
    if let Some(url) = url_of_environment()
        && let Some(url) = url.to_str()
        && Layout::from_url(url, &env).is_ok_and(|(layout, _)| layout.merged == live.merged)
    {
        return Ok(None);
    }
    let all = [options, &[live.layers]].concat();
    let (layout, mount) = Layout::from_mount_options(&all, &live.merged, &env)?;
    let mut words: Vec<OsString> = Vec::new();
    for list in all {
        words.extend(["-o".into(), list]);
    }
    words.push(live.merged.into());
    Ok(Some(Subject {
        request: request(layout, mount),
        mount_words: words,
        url: None,
    }))
}

/// Makes the request of `overstore compare`, which takes a live view for its layers as well.
pub(super) fn for_compare(target: &Target<'_>) -> Result<Request> {
    let word = match target.words[0] {
        Some(word) if !is_url(word) => word,
        _ => return Ok(for_run(target)?.0),
    };
    refuse_other_store(Some(word))?;
    if names_layers(target.options) {
        let what = format!("argument {}", word.display());
        let why = "unexpected beside -o lowerdir=,upperdir=";
        return Err(Error::usage(what, why));
    }
    let live = live_view(word)?.ok_or_else(|| no_view(word))?;
    let options = [target.options, &[live.layers]].concat();
    let (layout, options) = Layout::from_mount_options(&options, &live.merged, &surroundings()?)?;
    Ok(request(layout, options))
}

fn no_view(word: &OsStr) -> Error {
    let what = format!("layers of {}", word.display());
    Error::usage(what, "no merged view is mounted there")
        .hint("name them: -o lowerdir=/l/nix/store,upperdir=/u, or a store URL")
}

fn request(layout: Layout, options: MountOptions) -> Request {
    let processors = available_parallelism().map_or(1, NonZero::get);
    Request {
        layout,
        options,
        threads: processors.clamp(1, MOST_THREADS),
    }
}

pub(super) fn surroundings() -> Result<LayoutEnv> {
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

fn from_url(url: &OsStr, target: &Target<'_>, env: &LayoutEnv) -> Result<(Layout, MountOptions)> {
    let text = url.to_str().ok_or_else(|| {
        Error::usage(format!("store URL {}", url.display()), "not UTF-8")
            .hint("write other bytes as %XX")
    })?;
    let (layout, options, warnings) = Layout::from_url_and_options(text, target.options, env)?;
    if target.say == Say::Warnings {
        warnings.iter().for_each(warn);
    }
    Ok((layout, options))
}

/// The objects that the words of a command line mean.
pub(super) fn objects<All: FromIterator<ObjectName>>(
    layout: &Layout,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<All> {
    let cwd = std::env::current_dir()
        .map_err(|why| Error::environment("find the current directory", why))?;
    let dir = store_dir(layout)?;
    let place = Place {
        dir: &dir,
        merged: Some(&layout.merged),
        cwd: &cwd,
    };
    let words = words.into_iter();
    words
        .map(|word| place.object(Path::new(word.as_ref())))
        .collect()
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

fn no_store_url() -> Error {
    Error::usage("store", "none is given")
        .hint("for example --store 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'")
}

fn no_merged() -> Error {
    Error::usage("merged directory", "none is given")
        .hint("for example: overstore mount -o lowerdir=/l/nix/store,upperdir=/u /m/nix/store")
}
