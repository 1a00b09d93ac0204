// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mount options: the layers (`lowerdir=` and so on), the driver's own, and mount(8)'s words.
//!
//! Invariant: an option that is not known here is an error that names it.

use super::escape::{split_options, split_unescaped, unescape_option_value};
use super::{Layout, LayoutEnv, LowerStore, Settings, bad_value};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may trust what changes behind the mount where nothing tells.
pub const DEFAULT_LOWER_TTL: Duration = Duration::from_secs(1);

/// The longest `lower-ttl`: beyond it, one mistake would look like a broken store.
const MAX_LOWER_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// How access times are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atime {
    /// As the kernel does by default.
    Relatime,
    /// Never.
    Noatime,
    /// At every access.
    Strictatime,
}

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
    /// `nix-check=on|off`: refuse paths that Nix's `check-mount` cannot match.
    pub nix_check: bool,
    /// `allow_other`: let other users in; `None` is for the backend to decide.
    pub allow_other: Option<bool>,
    /// `ro`: mount read-only.
    pub read_only: bool,
    /// `suid`: honour set-user-id bits.
    pub suid: bool,
    /// `dev`: honour device nodes.
    pub dev: bool,
    /// `exec`: allow programs to run.
    pub exec: bool,
    /// `sync`: write through.
    pub sync: bool,
    /// `dirsync`: write directory changes through.
    pub dirsync: bool,
    /// `relatime`, `noatime` or `strictatime`.
    pub atime: Atime,
    /// `nodiratime`: keep no access times of directories.
    pub nodiratime: bool,
    /// Names of options that were asked for and that only the FUSE driver has.
    pub driver_only: BTreeSet<&'static str>,
}

impl Default for MountOptions {
    /// Returns what holds without options: no set-user-id bits and no devices, as no store
    /// object has either.
    fn default() -> MountOptions {
        MountOptions {
            xattr: false,
            lower_ttl: DEFAULT_LOWER_TTL,
            watch: true,
            repair: false,
            nix_check: true,
            allow_other: None,
            read_only: false,
            suid: false,
            dev: false,
            exec: true,
            sync: false,
            dirsync: false,
            atime: Atime::Relatime,
            nodiratime: false,
            driver_only: BTreeSet::new(),
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
            mount.note_driver_only(name);
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
            b"nix-check" => self.nix_check = switch(name, value)?,
            b"allow_other" => self.allow_other = Some(switch(name, value)?),
            b"lower-ttl" => self.lower_ttl = duration(name, value)?,
            b"user" | b"comment" => {}
            // Words for other programs that read the same line of fstab.
            _ => return Ok(name.starts_with(b"x-") || name.starts_with(b"X-")),
        }
        Ok(true)
    }

    /// Takes note of `name`, just set, if it asks for what only the driver does.
    fn note_driver_only(&mut self, name: &[u8]) {
        let (name, asked) = match name {
            b"watch" => ("watch", true),
            b"lower-ttl" => ("lower-ttl", true),
            b"xattr" | b"noxattr" => ("xattr", self.xattr),
            b"repair" | b"norepair" => ("repair", self.repair),
            // The kernel lets everybody in.
            b"allow_other" | b"noallow_other" => ("noallow_other", self.allow_other == Some(false)),
            _ => return,
        };
        match asked {
            true => self.driver_only.insert(name),
            false => self.driver_only.remove(name),
        };
    }

    /// Sets a word; answers false if there is no such word.
    fn set_word(&mut self, word: &[u8]) -> bool {
        match word {
            b"xattr" => self.xattr = true,
            b"noxattr" => self.xattr = false,
            b"repair" => self.repair = true,
            b"norepair" => self.repair = false,
            b"allow_other" => self.allow_other = Some(true),
            b"noallow_other" => self.allow_other = Some(false),
            _ => return self.set_generic_word(word),
        }
        true
    }

    /// Sets a word of mount(8) that holds for every filesystem.
    fn set_generic_word(&mut self, word: &[u8]) -> bool {
        match word {
            b"ro" => self.read_only = true,
            b"rw" => self.read_only = false,
            b"suid" => self.suid = true,
            b"nosuid" => self.suid = false,
            b"dev" => self.dev = true,
            b"nodev" => self.dev = false,
            b"exec" => self.exec = true,
            b"noexec" => self.exec = false,
            b"sync" => self.sync = true,
            b"async" => self.sync = false,
            b"dirsync" => self.dirsync = true,
            b"noatime" => self.atime = Atime::Noatime,
            b"strictatime" => self.atime = Atime::Strictatime,
            b"relatime" | b"atime" | b"norelatime" | b"nostrictatime" => {
                self.atime = Atime::Relatime
            }
            b"nodiratime" => self.nodiratime = true,
            b"diratime" => self.nodiratime = false,
            b"user" | b"users" => (self.suid, self.dev, self.exec) = (false, false, false),
            b"owner" | b"group" => (self.suid, self.dev) = (false, false),
            _ => {
                return WITHOUT_EFFECT.contains(&word)
                    || word.starts_with(b"x-")
                    || word.starts_with(b"X-");
            }
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
        "options are lowerdir=, upperdir=, workdir=, xattr, repair, lower-ttl=, watch=, \
         nix-check=, allow_other and those of mount(8)",
    )
}

/// Words for mount(8), fstab and systemd, and those that ask for what is always so.
const WITHOUT_EFFECT: &[&[u8]] = &[
    b"default_permissions",
    b"defaults",
    b"auto",
    b"noauto",
    b"nofail",
    b"_netdev",
    b"nouser",
    b"noowner",
    b"nogroup",
    b"silent",
    b"loud",
    b"lazytime",
    b"nolazytime",
    b"iversion",
    b"noiversion",
    b"mand",
    b"nomand",
];

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
