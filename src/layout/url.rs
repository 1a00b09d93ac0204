// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layouts from store URLs: the settings of `local-overlay` stores with Nix's defaults.
//!
//! Invariant: the layout is the one that Nix 2.34 and later opens; where an older Nix opens
//! another one, a warning says so.

use super::lower::{self, Context, Lower};
use super::settings::{Reader, Settings, bad_setting};
use super::{Layout, LayoutEnv, Warning};
use crate::error::{Error, Result};
use crate::store::{ReferenceError, StoreReference, Target, percent};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const SCHEME: &str = "local-overlay";

/// How often the value of `lower-store` is percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoding {
    /// With the rest of the query: Nix 2.34 and later.
    Once,
    /// Once more: Nix before 2.34.
    Twice,
}

impl Decoding {
    /// Returns the store that the already decoded `value` names.
    pub(super) fn lower_store(self, value: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Decoding::Once => Ok(value),
            Decoding::Twice => percent::decode(&value)
                .map_err(|bad| bad_setting("lower-store", &value, &bad.to_string())),
        }
    }
}

type Parsed = (Layout, Vec<Warning>);

pub(super) fn parse(url: &str, env: &LayoutEnv) -> Result<Parsed> {
    let once = parse_as(Decoding::Once, url, env);
    // Only an escaped percent sign survives the first decoding.
    if !url.contains("%25") {
        return once;
    }
    let twice = parse_as(Decoding::Twice, url, env);
    match (once, twice) {
        (Ok((layout, mut warnings)), older) => {
            if older.as_ref().ok().map(|(older, _)| older) != Some(&layout) {
                warnings.push(older_nix(older));
            }
            Ok((layout, warnings))
        }
        (Err(error), Ok(_)) => Err(error.hint(
            "lower-store is percent-encoded twice, as Nix before 2.34 wants it; encode it once",
        )),
        (Err(error), Err(_)) => Err(error),
    }
}

pub(super) fn from_settings(settings: &[(&str, OsString)], env: &LayoutEnv) -> Result<Parsed> {
    let reference = StoreReference {
        target: Target::Scheme {
            scheme: SCHEME.to_owned(),
            path: Vec::new(),
        },
        settings: settings
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.clone().into_vec()))
            .collect(),
        notes: Vec::new(),
    };
    top(reference, Decoding::Once, env, Vec::new())
}

/// Parses `value`, the value of `name`, as a store URL, and warns about parts without effect.
pub(super) fn parse_reference(
    name: &str,
    value: &[u8],
    env: &LayoutEnv,
    warnings: &mut Vec<Warning>,
) -> Result<StoreReference> {
    let reference = StoreReference::parse(value, env.cwd()).map_err(|why| {
        let error = Error::usage(format!("{name} {}", value.escape_ascii()), why);
        match why {
            ReferenceError::QueryByte(_) | ReferenceError::QueryEscape(_) => error,
            ReferenceError::NotAStore if value.starts_with(b"local-overlay?") => {
                error.hint("write local-overlay://?NAME=VALUE")
            }
            ReferenceError::NotAStore => error
                .hint("write local-overlay://, local://, unix://, daemon, or a path with a '/'"),
        }
    })?;
    warnings.extend(
        reference
            .notes
            .iter()
            .map(|note| Warning::new(format!("{name}: {note}"))),
    );
    Ok(reference)
}

/// Returns the layout of a reference to a `local-overlay` store.
pub(super) fn overlay(
    reference: StoreReference,
    context: Context<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Layout> {
    let Target::Scheme { path, .. } = reference.target else {
        return Err(Error::usage("store auto", "not a local overlay store"));
    };
    let mut reader = Reader::new(reference.settings, context.env);
    let mut settings = Settings::default();
    let (directories, root, log) = reader.directories(&path)?;
    settings.root = root;
    settings.log = Some(log);
    settings.remount_hook = reader.optional_path("remount-hook")?;
    reader.common(&mut settings)?;
    reader.local(&mut settings)?;
    let read_only = reader.flag("read-only")?.unwrap_or(false);
    let check_mount = reader.flag("check-mount")?.unwrap_or(true);
    let upper = reader.path("upper-layer")?.ok_or_else(|| {
        Error::usage("setting upper-layer", "missing, and it has no default")
            .hint("add upper-layer=/DIR to the store URL")
    })?;
    let lower = lower::parse(reader.text("lower-store"), context, warnings)?;
    reader.finish("store", warnings);
    warn_about_store_dir(&directories.store_dir, &lower, warnings);
    Ok(Layout {
        lower: lower.directory,
        lower_store: lower.store,
        upper,
        work: None,
        merged: directories.real,
        store_dir: directories.store_dir,
        state: Some(directories.state),
        check_mount,
        read_only,
        settings,
    })
}

fn parse_as(decoding: Decoding, url: &str, env: &LayoutEnv) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let reference = parse_reference("store", url.as_bytes(), env, &mut warnings)?;
    match &reference.target {
        Target::Scheme { scheme, .. } if scheme == SCHEME => {
            top(reference, decoding, env, warnings)
        }
        Target::Scheme { .. } | Target::Auto => {
            let what = format!("store {}", url.as_bytes().escape_ascii());
            Err(Error::usage(what, "not a local overlay store")
                .hint("write local-overlay://?lower-store=STORE&upper-layer=/DIR"))
        }
    }
}

fn top(
    reference: StoreReference,
    decoding: Decoding,
    env: &LayoutEnv,
    mut warnings: Vec<Warning>,
) -> Result<Parsed> {
    let context = Context {
        env,
        decoding,
        depth: 0,
    };
    let layout = overlay(reference, context, &mut warnings)?;
    Ok((layout, warnings))
}

fn older_nix(older: Result<Parsed>) -> Warning {
    let reads = match older {
        Ok((layout, _)) => format!(
            "takes another lower store ({})",
            super::shown(&layout.lower)
        ),
        Err(_) => "refuses it".to_owned(),
    };
    Warning::new(format!(
        "Nix before 2.34 decodes lower-store twice and {reads}; with such a Nix avoid percent signs and deeper nesting"
    ))
}

fn warn_about_store_dir(store_dir: &std::path::Path, lower: &Lower, warnings: &mut Vec<Warning>) {
    if lower.store_dir != store_dir {
        warnings.push(Warning::new(format!(
            "the lower store's objects are named {}/..., not {}/...; set store= alike for both",
            super::shown(&lower.store_dir),
            super::shown(store_dir)
        )));
    }
}
