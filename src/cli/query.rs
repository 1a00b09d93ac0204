// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore path-info` and `overstore query`.

use super::args::query::{PathInfoArgs, QueryArgs};
use super::request;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::metadata::Source;
use crate::operations::query::{Follow, Place, Query, Root, read_text};
use crate::store::{ObjectName, StoreDir};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// Exit code where JSON has `null` for a path that is not valid.
const NOT_ALL_VALID: u8 = 1;

/// Opens the metadata of a store, of both layers.
pub(super) type Open<'a> = dyn Fn(&Layout) -> Result<Box<dyn Source>> + 'a;

/// Finds the collector's roots of a store.
pub(super) type FindRoots<'a> = dyn Fn(&Layout) -> Result<Vec<Root>> + 'a;

/// Prints path infos.
pub(super) fn path_info(wanted: &PathInfoArgs, open: &Open<'_>) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let (text, code) = path_info_text(wanted, &layout, &*open(&layout)?)?;
    super::print(text.as_bytes())?;
    Ok(code)
}

/// Prints the answer about objects; the roots are looked for if they are asked about.
pub(super) fn query(wanted: &QueryArgs, open: &Open<'_>, roots: &FindRoots<'_>) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let source = open(&layout)?;
    let text = query_text(wanted, &layout, &*source, &|| roots(&layout))?;
    super::print(text.as_bytes())?;
    Ok(0)
}

/// Returns what is printed, and the exit code.
pub(super) fn path_info_text(
    wanted: &PathInfoArgs,
    layout: &Layout,
    source: &dyn Source,
) -> Result<(String, u8)> {
    let dir = store_dir(layout)?;
    let read = |name: &ObjectName| read_text(layout, name);
    let mut query = Query::new(&dir, source, &read);
    let mut names: BTreeSet<ObjectName> = match wanted.all {
        true => query.all()?,
        false => objects(
            &dir,
            layout,
            wanted.paths.iter().map(|path| path.as_os_str()),
        )?
        .into_iter()
        .collect(),
    };
    if wanted.recursive {
        names = query.requisites(&names, Follow::default())?;
    }
    let Some(format) = wanted.format() else {
        return Ok((query.table(&names, wanted.columns())?, 0));
    };
    let mut text = query.json(&names, format, wanted.closure_size)?;
    text.push('\n');
    let mut code = 0;
    for name in &names {
        if query.find(name)?.is_none() {
            code = NOT_ALL_VALID;
        }
    }
    Ok((text, code))
}

/// Returns what is printed.
pub(super) fn query_text(
    wanted: &QueryArgs,
    layout: &Layout,
    source: &dyn Source,
    roots: &dyn Fn() -> Result<Vec<Root>>,
) -> Result<String> {
    let dir = store_dir(layout)?;
    let read = |name: &ObjectName| read_text(layout, name);
    let mut query = Query::new(&dir, source, &read);
    let Some(question) = wanted.question() else {
        let mut text = String::new();
        for part in &wanted.paths {
            let part = part.to_str().ok_or_else(|| {
                let what = format!("hash part {}", part.as_encoded_bytes().escape_ascii());
                Error::usage(what, "not UTF-8")
            })?;
            let found = query.with_hash_part(part)?;
            text.push_str(&format!("{}\n", dir.store_path(&found).display()));
        }
        return Ok(text);
    };
    let words = wanted.paths.iter().map(|word| word.as_os_str());
    query.answer(question, &objects(&dir, layout, words)?, roots)
}

/// The objects that the words of a command line mean.
fn objects<'w>(
    dir: &StoreDir,
    layout: &Layout,
    words: impl Iterator<Item = &'w OsStr>,
) -> Result<Vec<ObjectName>> {
    let cwd = std::env::current_dir()
        .map_err(|why| Error::environment("find the current directory", why))?;
    let place = Place {
        dir,
        merged: Some(&layout.merged),
        cwd: &cwd,
    };
    words.map(|word| place.object(Path::new(word))).collect()
}

fn store_dir(layout: &Layout) -> Result<StoreDir> {
    let path = &layout.store_dir;
    let dir = StoreDir::new(path);
    dir.ok_or_else(|| {
        Error::usage(
            format!("store directory {}", path.display()),
            "not absolute",
        )
    })
}
