// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `lower-store` names: a directory, and a way to its metadata.
//!
//! Decides between the store types as Nix does. Invariant: the lower directory is a real
//! directory of this host; stores without one are refused.

use super::settings::{Directories, Reader, Settings, bad_setting, path_bytes};
use super::url::{Decoding, overlay, parse_reference};
use super::{LayoutEnv, LowerStore, Warning};
use crate::error::Result;
use crate::store::{StoreReference, Target};
use std::path::PathBuf;

/// How many lower stores may be nested; the kernel mounts two.
const MAX_DEPTH: usize = 32;

/// The setting that this file is about.
const SETTING: &str = "lower-store";

/// A lower store, found.
#[derive(Debug)]
pub(super) struct Lower {
    /// Its physical store directory.
    pub(super) directory: PathBuf,
    /// Its logical one.
    pub(super) store_dir: PathBuf,
    /// Where its metadata is.
    pub(super) store: LowerStore,
}

/// What one URL is parsed with, at its depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) env: &'a LayoutEnv,
    pub(super) decoding: Decoding,
    pub(super) depth: usize,
}

/// Finds the lower store that `value` names; `None` stands for a setting that is not given.
pub(super) fn parse(
    value: Option<Vec<u8>>,
    context: Context<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let value = context.decoding.lower_store(value.unwrap_or_default())?;
    if context.depth == MAX_DEPTH {
        return Err(bad_setting(
            SETTING,
            &value,
            "too many lower stores inside each other",
        ));
    }
    let reference = parse_reference(SETTING, &value, context.env, warnings)?;
    match &reference.target {
        Target::Auto => auto(reference.settings, context.env, warnings),
        Target::Scheme { scheme, path, .. } => match scheme.as_str() {
            "local" => local(path, reference.settings, context.env, warnings),
            "unix" => daemon(path, reference.settings, context.env, warnings),
            "mounted-ssh-ng" => mounted(reference.settings, context.env, warnings),
            "local-overlay" => nested(reference, context, warnings),
            _ => Err(bad_setting(
                SETTING,
                &value,
                "this store type has no store directory on this host",
            )
            .hint("use a path, local://, daemon, unix:// or local-overlay://")),
        },
    }
}

/// A store that is named beside the layout's own, to read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherStore {
    /// Its physical store directory.
    pub directory: PathBuf,
    /// Its logical one.
    pub store_dir: PathBuf,
    /// Where its metadata is.
    pub store: LowerStore,
}

impl OtherStore {
    /// Returns the store that `url` names, by any spelling that is good for a lower store.
    pub fn parse(url: &[u8], env: &LayoutEnv) -> Result<(OtherStore, Vec<Warning>)> {
        let mut warnings = Vec::new();
        let context = Context {
            env,
            decoding: Decoding::Once,
            depth: 0,
        };
        let found = parse(Some(url.to_vec()), context, &mut warnings)?;
        let other = OtherStore {
            directory: found.directory,
            store_dir: found.store_dir,
            store: found.store,
        };
        Ok((other, warnings))
    }
}

/// Chooses as Nix does: the local store if its state may be written, else the daemon if there
/// is one, else a private store for a user without `/nix`, else the local store.
fn auto(
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    env: &LayoutEnv,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let given = settings.iter().find(|(name, _)| name == b"state");
    let state = match given {
        Some((_, value)) => env
            .absolute(value)
            .ok_or_else(|| bad_setting("state", value, "not an absolute path"))?,
        None => env.state_dir()?,
    };
    if env.usable(&state) {
        return local(b"", settings, env, warnings);
    }
    if env.exists(&env.daemon_socket()?) {
        return daemon(b"", settings, env, warnings);
    }
    match env
        .private_root()
        .filter(|_| settings.is_empty() && !env.exists(&state))
    {
        Some(root) => {
            let text = format!(
                "{} does not exist, so the lower store is {}",
                state.display(),
                root.display()
            );
            warnings.push(Warning::new(text));
            local(path_bytes(&root), settings, env, warnings)
        }
        None => local(b"", settings, env, warnings),
    }
}

fn local(
    path: &[u8],
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    env: &LayoutEnv,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let mut reader = Reader::new(settings, env);
    let mut unused = Settings::default();
    let (directories, ..) = reader.directories(path)?;
    let read_only = reader.flag("read-only")?.unwrap_or(false);
    reader.common(&mut unused)?;
    reader.local(&mut unused)?;
    reader.finish("lower store", warnings);
    let Directories {
        store_dir,
        real,
        state,
    } = directories;
    Ok(Lower {
        directory: real,
        store_dir,
        store: LowerStore::Local { state, read_only },
    })
}

fn daemon(
    path: &[u8],
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    env: &LayoutEnv,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let mut reader = Reader::new(settings, env);
    let (directories, ..) = reader.directories(b"")?;
    reader.common(&mut Settings::default())?;
    reader.remote()?;
    reader.finish("lower store", warnings);
    let socket = match path {
        b"" => env.daemon_socket()?,
        path => env.absolute(path).ok_or_else(|| {
            bad_setting(SETTING, path, "no path of a socket").hint("write unix:///path/of/socket")
        })?,
    };
    Ok(Lower {
        directory: directories.real,
        store_dir: directories.store_dir,
        store: LowerStore::Daemon { socket },
    })
}

/// A remote store whose directory is mounted here: the files can be merged, but there is no way
/// to the metadata.
fn mounted(
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    env: &LayoutEnv,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let mut reader = Reader::new(settings, env);
    let (directories, ..) = reader.directories(b"")?;
    let text =
        "the metadata of a mounted-ssh-ng lower store cannot be read; only its files are used";
    warnings.push(Warning::new(text));
    Ok(Lower {
        directory: directories.real,
        store_dir: directories.store_dir,
        store: LowerStore::Directory,
    })
}

fn nested(
    reference: StoreReference,
    context: Context<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Lower> {
    let inside = Context {
        depth: context.depth + 1,
        ..context
    };
    let layout = overlay(reference, inside, warnings)?;
    Ok(Lower {
        directory: layout.merged.clone(),
        store_dir: layout.store_dir.clone(),
        store: LowerStore::Overlay(Box::new(layout)),
    })
}
