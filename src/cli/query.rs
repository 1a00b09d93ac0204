// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore path-info` and `overstore query`.

use super::args::query::{PathInfoArgs, QueryArgs};
use super::request;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::metadata::{Source, open_union};
use crate::operations::query::{Follow, Query, read_text, whole};
use crate::operations::{list_roots, store_dir};
use crate::roots::{Interrupt, Root};
use crate::store::ObjectName;
use std::collections::BTreeSet;

/// Exit code where JSON has `null` for a path that is not valid.
const NOT_ALL_VALID: u8 = 1;

/// Prints path infos.
pub(super) fn path_info(wanted: &PathInfoArgs) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let ask = |source: &dyn Source| path_info_text(wanted, &layout, source);
    let (text, code) = whole(|| open_union(&layout), ask)?;
    super::print(text.as_bytes())?;
    Ok(code)
}

/// Prints the answer about objects; the roots are looked for if they are asked about.
pub(super) fn query(wanted: &QueryArgs) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let ask = |source: &dyn Source| {
        let roots = || list_roots(&layout, source, &Interrupt::never());
        query_text(wanted, &layout, source, &roots)
    };
    let text = whole(|| open_union(&layout), ask)?;
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
        false => request::objects(layout, &wanted.paths)?,
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
    roots: &dyn Fn() -> Result<BTreeSet<Root>>,
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
    query.answer(question, &request::objects::<Vec<_>>(layout, words)?, roots)
}
