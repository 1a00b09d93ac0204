// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of a store URL, each read once in its type.
//!
//! Decides what a value may look like. Invariant: every setting that Nix knows is read for the
//! store types that have it, so what is left at the end is unknown to Nix too.

use super::{LayoutEnv, Warning, bad_value};
use crate::error::{Error, Result};
use crate::store::path::canonical;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What Nix keeps of path infos in memory by default.
const PATH_INFO_CACHE_SIZE: u64 = 65536;

/// The settings that say nothing about where the layers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `root`: the directory from which the defaults of state, log and merged derive.
    pub root: Option<PathBuf>,
    /// `log`: where build logs are; `None` for mount options.
    pub log: Option<PathBuf>,
    /// `remount-hook`: what Nix runs after it removed duplicates from the upper.
    pub remount_hook: Option<PathBuf>,
    /// `require-sigs`; `None` leaves it to Nix's configuration (which says true by default).
    pub require_sigs: Option<bool>,
    /// `build-dir`: where builds happen.
    pub build_dir: Option<PathBuf>,
    /// `ignore-gc-delete-failure`: a collector goes on where it cannot delete.
    pub ignore_gc_delete_failure: bool,
    /// `use-roots-daemon`: runtime roots come from a socket.
    pub use_roots_daemon: bool,
    /// `path-info-cache-size`, in path infos.
    pub path_info_cache_size: u64,
    /// `trusted`: paths of this store need no signature elsewhere.
    pub trusted: bool,
    /// `priority` among substituters.
    pub priority: i64,
    /// `want-mass-query`: whether to ask for many paths at once.
    pub want_mass_query: bool,
    /// `system-features` of builds; `None` leaves them to Nix.
    pub system_features: Option<Vec<OsString>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            root: None,
            log: None,
            remount_hook: None,
            require_sigs: None,
            build_dir: None,
            ignore_gc_delete_failure: false,
            use_roots_daemon: false,
            path_info_cache_size: PATH_INFO_CACHE_SIZE,
            trusted: false,
            priority: 0,
            want_mass_query: false,
            system_features: None,
        }
    }
}

/// The directories of one store with a filesystem.
#[derive(Debug)]
pub(super) struct Directories {
    /// The logical store directory.
    pub(super) store_dir: PathBuf,
    /// The physical one.
    pub(super) real: PathBuf,
    /// The state directory.
    pub(super) state: PathBuf,
}

/// The settings of one URL that have not been read yet.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    unread: Vec<(Vec<u8>, Vec<u8>)>,
    env: &'a LayoutEnv,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: Vec<(Vec<u8>, Vec<u8>)>, env: &'a LayoutEnv) -> Reader<'a> {
        Reader {
            unread: settings,
            env,
        }
    }

    /// Reads a text.
    pub(super) fn text(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self
            .unread
            .iter()
            .position(|(known, _)| known == name.as_bytes())?;
        Some(self.unread.swap_remove(at).1)
    }

    /// Reads a path, which must not be empty.
    pub(super) fn path(&mut self, name: &str) -> Result<Option<PathBuf>> {
        match self.text(name) {
            None => Ok(None),
            Some(value) => parse_path(name, &value).map(Some),
        }
    }

    /// Reads a path that the empty text unsets.
    pub(super) fn optional_path(&mut self, name: &str) -> Result<Option<PathBuf>> {
        match self.text(name) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => parse_path(name, &value).map(Some),
        }
    }

    /// Reads a boolean in Nix's spellings.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.as_slice() {
            b"true" | b"yes" | b"1" => Ok(Some(true)),
            b"false" | b"no" | b"0" => Ok(Some(false)),
            _ => Err(bad_setting(name, &value, "not a boolean").hint("write true or false")),
        }
    }

    /// Reads a number, which may end in K, M, G or T (powers of 1024).
    pub(super) fn number<N: TryFrom<i128>>(&mut self, name: &str) -> Result<Option<N>> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        let parsed = parse_number(&value).and_then(|number| N::try_from(number).ok());
        match parsed {
            Some(number) => Ok(Some(number)),
            None => Err(bad_setting(name, &value, "not a number, or out of range")
                .hint("write digits, with K, M, G or T behind them for powers of 1024")),
        }
    }

    /// Reads the directories that every store with a filesystem has. `path_root` is the root
    /// that the path part of the URL gives; `root=` has precedence, also when it is empty.
    pub(super) fn directories(
        &mut self,
        path_root: &[u8],
    ) -> Result<(Directories, Option<PathBuf>, PathBuf)> {
        let root = match self.text("root") {
            Some(value) if value.is_empty() => None,
            Some(value) => Some(parse_path("root", &value)?),
            None if path_root.is_empty() => None,
            None => Some(parse_path("root", path_root)?),
        };
        let store_dir = match self.path("store")? {
            Some(dir) => dir,
            None => self.env.store_dir()?,
        };
        let below = |below: &str| root.as_ref().map(|root| root.join(below));
        let real = self.path("real")?.or_else(|| below("nix/store"));
        let state = self.path("state")?.or_else(|| below("nix/var/nix"));
        let log = self.path("log")?.or_else(|| below("nix/var/log/nix"));
        let directories = Directories {
            real: real.unwrap_or_else(|| store_dir.clone()),
            store_dir,
            state: state.map_or_else(|| self.env.state_dir(), Ok)?,
        };
        let log = log.map_or_else(|| self.env.log_dir(), Ok)?;
        Ok((directories, root, log))
    }

    /// Reads the settings that every store has.
    pub(super) fn common(&mut self, settings: &mut Settings) -> Result<()> {
        if let Some(size) = self.number("path-info-cache-size")? {
            settings.path_info_cache_size = size;
        }
        if let Some(priority) = self.number::<i32>("priority")? {
            settings.priority = i64::from(priority);
        }
        settings.trusted = self.flag("trusted")?.unwrap_or(false);
        settings.want_mass_query = self.flag("want-mass-query")?.unwrap_or(false);
        settings.system_features = self.text("system-features").map(|value| {
            let words = value.split(u8::is_ascii_whitespace);
            words
                .filter(|word| !word.is_empty())
                .map(|word| OsString::from_vec(word.to_vec()))
                .collect()
        });
        Ok(())
    }

    /// Reads the settings of stores that Nix writes itself (`local` and `local-overlay`),
    /// except `read-only`.
    pub(super) fn local(&mut self, settings: &mut Settings) -> Result<()> {
        settings.require_sigs = self.flag("require-sigs")?;
        settings.build_dir = self.optional_path("build-dir")?;
        settings.ignore_gc_delete_failure = self.flag("ignore-gc-delete-failure")?.unwrap_or(false);
        settings.use_roots_daemon = self.flag("use-roots-daemon")?.unwrap_or(false);
        Ok(())
    }

    /// Reads the settings of stores behind a daemon; nothing here needs their values.
    pub(super) fn remote(&mut self) -> Result<()> {
        self.number::<i64>("max-connections")?;
        self.number::<i64>("max-connection-age")?;
        Ok(())
    }

    /// Warns about what is left.
    pub(super) fn finish(self, store: &str, warnings: &mut Vec<Warning>) {
        for (name, _) in self.unread {
            let name = name.escape_ascii();
            warnings.push(Warning::new(format!(
                "unknown setting '{name}' of the {store} is ignored"
            )));
        }
    }
}

/// Reports a wrong setting of a URL.
pub(super) fn bad_setting(name: &str, value: &[u8], why: &str) -> Error {
    bad_value("setting", name.as_bytes(), value, why)
}

/// Returns `path` as the value of a setting.
pub(super) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn parse_path(name: &str, value: &[u8]) -> Result<PathBuf> {
    let why = match value {
        b"" => "the path is empty",
        value if value.contains(&0) => "no path holds a NUL byte",
        _ => "not an absolute path",
    };
    canonical(value).ok_or_else(|| {
        bad_setting(name, value, why).hint("write the path from the root, as /dir/name")
    })
}

fn parse_number(value: &[u8]) -> Option<i128> {
    let (digits, factor) = match value {
        [digits @ .., unit] if !unit.is_ascii_digit() => (digits, unit_factor(*unit)?),
        digits => (digits, 1),
    };
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(i128::from(number) * factor)
}

fn unit_factor(unit: u8) -> Option<i128> {
    match unit.to_ascii_uppercase() {
        b'K' => Some(1 << 10),
        b'M' => Some(1 << 20),
        b'G' => Some(1 << 30),
        b'T' => Some(1 << 40),
        _ => None,
    }
}
