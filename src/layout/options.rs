// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mount options: the layers (`lowerdir=` and so on), the driver's own, and mount(8)'s words.
//!
//! Invariant: an option that is not known here is an error that names it.

use super::{Layout, LayoutEnv, LowerStore, Settings, bad_value};
use crate::error::{Error, Result};
use overstore_mount::escape::{
    escape_option_value, split_options, split_unescaped, unescape_option_value,
};
use overstore_mount::{Attributes, DriverOnly, is_for_others};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may trust what changes behind the mount where nothing tells.
pub const DEFAULT_LOWER_TTL: Duration = Duration::from_secs(1);

/// The longest `lower-ttl`: beyond it, one mistake would look like a broken store.
const MAX_LOWER_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the options say about the mount, apart from the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `xattr`: pass real extended attributes through.
    pub xattr: bool,
    /// `lower-ttl=TIME`: how long top-level names are trusted where watching cannot work.
    pub lower_ttl: Duration,
    /// `watch=on|off`: follow changes of the layers as they happen, where that can work.
    pub watch: bool,
    /// `repair=on|off`: let lower objects be removed from sight and replaced.
    pub repair: bool,
    /// `record=on|off`: register objects that were completed through the mount.
    pub record: bool,
    /// `nix-check=on|off`: refuse paths that Nix's `check-mount` cannot match.
    pub nix_check: bool,
    /// `allow_other`: let other users in; `None` is for the backend to decide.
    pub allow_other: Option<bool>,
    /// The words of mount(8) that hold for every filesystem.
    pub attributes: Attributes,
    /// What was asked for that only the FUSE driver does.
    pub driver_only: DriverOnly,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            xattr: false,
            lower_ttl: DEFAULT_LOWER_TTL,
            watch: true,
            repair: false,
            record: false,
            nix_check: true,
            allow_other: None,
            attributes: Attributes::default(),
            driver_only: DriverOnly::default(),
        }
    }
}

/// The directories among mount options, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerOptions {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    work: Option<Vec<u8>>,
}

/// Returns the options that name two layers, as one list.
pub fn layer_options(lower: &Path, upper: &Path) -> OsString {
    let mut options = b"lowerdir=".to_vec();
    options.extend(escape_option_value(lower.as_os_str().as_bytes()));
    options.extend(b",upperdir=");
    options.extend(escape_option_value(upper.as_os_str().as_bytes()));
    OsString::from_vec(options)
}

/// Reads option lists, each the argument of one `-o`; what comes later wins.
pub fn parse_options(options: &[OsString]) -> Result<(LayerOptions, MountOptions)> {
    let mut layers = LayerOptions::default();
    let mut mount = MountOptions::default();
    for list in options {
        for option in split_options(list.as_bytes()) {
            let (name, value) = match option.iter().position(|&byte| byte == b'=') {
                Some(at) => (&option[..at], Some(&option[at + 1..])),
                None => (option, None),
            };
            let known = match value {
                Some(value) => layers.set(name, value)? || mount.set(name, value)?,
                None => mount.set_word(name),
            };
            if !known {
                return Err(unknown(name, value));
            }
            mount.driver_only.note(name, value);
        }
    }
    Ok((layers, mount))
}

impl LayerOptions {
    /// Returns the layout that these options alone describe.
    pub(super) fn into_layout(self, merged: &Path, env: &LayoutEnv) -> Result<Layout> {
        let merged = absolute("merged directory", merged.as_os_str().as_bytes(), env)?;
        Ok(Layout {
            lower: required("lowerdir", self.lower, env)?,
            lower_store: LowerStore::Directory,
            upper: required("upperdir", self.upper, env)?,
            work: self
                .work
                .map(|path| absolute("option workdir", &path, env))
                .transpose()?,
            merged,
            store_dir: env.store_dir()?,
            state: None,
            check_mount: true,
            read_only: false,
            settings: Settings::default(),
        })
    }

    /// Adds these options to a layout that has its layers already.
    pub(super) fn add_to(self, layout: &mut Layout, env: &LayoutEnv) -> Result<()> {
        for (name, value) in [("lowerdir", &self.lower), ("upperdir", &self.upper)] {
            if let Some(value) = value {
                return Err(bad_option(
                    name.as_bytes(),
                    value,
                    "the store URL names the layers already",
                )
                .hint("leave it out, or mount without a URL"));
            }
        }
        if let Some(path) = self.work {
            layout.work = Some(absolute("option workdir", &path, env)?);
        }
        Ok(())
    }

    fn set(&mut self, name: &[u8], text: &[u8]) -> Result<bool> {
        let slot = match name {
            b"lowerdir" => &mut self.lower,
            b"upperdir" => &mut self.upper,
            b"workdir" => &mut self.work,
            b"lowerdir+" | b"datadir+" => return Err(several_lowers(name, text)),
            _ => return Ok(false),
        };
        if name == b"lowerdir" && split_unescaped(text, b':').len() > 1 {
            return Err(several_lowers(name, text));
        }
        let value = unescape_option_value(text).map_err(|bad| {
            bad_option(name, text, bad).hint("write a backslash of a path as two")
        })?;
        if value.is_empty() {
            return Err(bad_option(name, text, "the path is empty"));
        }
        *slot = Some(value);
        Ok(true)
    }
}

impl MountOptions {
    /// Sets `name` to `value`; answers false if there is no such option.
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<bool> {
        match name {
            b"xattr" => self.xattr = switch(name, value)?,
            b"watch" => self.watch = switch(name, value)?,
            b"repair" => self.repair = switch(name, value)?,
            b"record" => self.record = switch(name, value)?,
            b"nix-check" => self.nix_check = switch(name, value)?,
            b"allow_other" => self.allow_other = Some(switch(name, value)?),
            b"lower-ttl" => self.lower_ttl = duration(name, value)?,
            _ => return Ok(is_for_others(name, Some(value))),
        }
        Ok(true)
    }

    /// Sets a word; answers false if there is no such word.
    fn set_word(&mut self, word: &[u8]) -> bool {
        match word {
            b"xattr" => self.xattr = true,
            b"noxattr" => self.xattr = false,
            b"repair" => self.repair = true,
            b"norepair" => self.repair = false,
            b"record" => self.record = true,
            b"norecord" => self.record = false,
            b"allow_other" => self.allow_other = Some(true),
            b"noallow_other" => self.allow_other = Some(false),
            _ => return self.attributes.apply(word) || is_for_others(word, None),
        }
        true
    }
}

fn bad_option(name: &[u8], value: &[u8], why: impl std::fmt::Display) -> Error {
    bad_value("option", name, value, why)
}

fn several_lowers(name: &[u8], value: &[u8]) -> Error {
    bad_option(name, value, "there can be only one lower directory")
        .hint("nest overlay stores instead, or write a colon of a path as \\:")
}

fn unknown(name: &[u8], value: Option<&[u8]>) -> Error {
    let shown = match value {
        Some(value) => format!("option {}={}", name.escape_ascii(), value.escape_ascii()),
        None => format!("option {}", name.escape_ascii()),
    };
    if value.is_none() && (LAYERS.contains(&name) || WITH_VALUE.contains(&name)) {
        let name = name.escape_ascii();
        return Error::usage(shown, "needs a value").hint(format!("write {name}=VALUE"));
    }
    Error::usage(shown, "unknown").hint(
        "options are lowerdir=, upperdir=, workdir=, xattr, repair, record, lower-ttl=, \
         watch=, nix-check=, allow_other and those of mount(8)",
    )
}

const LAYERS: [&[u8]; 3] = [b"lowerdir", b"upperdir", b"workdir"];

/// Our own options that are not words.
const WITH_VALUE: [&[u8]; 3] = [b"lower-ttl", b"watch", b"nix-check"];

fn required(name: &str, value: Option<Vec<u8>>, env: &LayoutEnv) -> Result<PathBuf> {
    let value = value.ok_or_else(|| {
        Error::usage(format!("option {name}"), "missing, and it has no default")
            .hint(format!("add -o {name}=/DIR, or mount a store URL"))
    })?;
    absolute(&format!("option {name}"), &value, env)
}

fn absolute(what: &str, path: &[u8], env: &LayoutEnv) -> Result<PathBuf> {
    let usable = env.absolute(path).filter(|_| !path.is_empty());
    usable.ok_or_else(|| {
        let what = format!(
            "{what} {}",
            OsStr::from_bytes(path).as_bytes().escape_ascii()
        );
        Error::usage(what, "not a path").hint("write the path from the root, as /dir/name")
    })
}

fn switch(name: &[u8], value: &[u8]) -> Result<bool> {
    match value {
        b"on" | b"true" | b"yes" | b"1" => Ok(true),
        b"off" | b"false" | b"no" | b"0" => Ok(false),
        _ => Err(bad_option(name, value, "neither on nor off").hint("write on or off")),
    }
}

/// Reads a time: a number with the unit ms, s (the default), m or h.
fn duration(name: &[u8], value: &[u8]) -> Result<Duration> {
    let bad = |why| bad_option(name, value, why).hint("write a time such as 0, 500ms, 1s or 2m");
    let text = std::str::from_utf8(value).map_err(|_| bad("not a time"))?;
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad("not a time")),
    };
    let plain = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = digits
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| bad("not a time"))?;
    let time =
        Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| bad("too long"))?;
    if time > MAX_LOWER_TTL {
        return Err(bad("longer than a day"));
    }
    Ok(time)
}
