// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount options: the layers, the backend, the driver's own, and mount(8)'s words.
//!
//! Invariant: an option that is not known here is an error that names it, or with `-s` left out.

use overstore_mount::escape::{split_options, split_unescaped, unescape_option_value};
use overstore_mount::{Attributes, DriverOnly, Fault, is_for_others};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Who serves the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// FUSE wherever it works, else the kernel.
    Auto,
    Fuse,
    Kernel,
}

impl Backend {
    pub(crate) fn read(word: &[u8]) -> Result<Backend, Fault> {
        match word {
            b"auto" => Ok(Backend::Auto),
            b"fuse" => Ok(Backend::Fuse),
            b"kernel" => Ok(Backend::Kernel),
            _ => Err(wrong(b"backend", word, "not auto, fuse or kernel")),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Fuse => "fuse",
            Backend::Kernel => "kernel",
        }
    }
}

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) lower: Option<PathBuf>,
    pub(crate) upper: Option<PathBuf>,
    pub(crate) work: Option<PathBuf>,
    pub(crate) backend: Option<Backend>,
    pub(crate) remount: bool,
    pub(crate) nix_check: NixCheck,
    /// The attributes that the words make of the default ones.
    pub(crate) attributes: Attributes,
    /// The words of mount(8) among them, for a remount.
    pub(crate) words: Vec<Vec<u8>>,
    /// Options that only the FUSE driver has.
    pub(crate) of_driver: DriverOnly,
    /// What the program `overstore` is to be told, still escaped.
    pub(crate) passed: Vec<Vec<u8>>,
    /// Unknown options that were forgiven.
    pub(crate) forgiven: Vec<Vec<u8>>,
}

/// Whether paths that Nix's check cannot match are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum NixCheck {
    #[default]
    On,
    Off,
}

/// Options that mean something with a value only.
const WITH_VALUE: [&[u8]; 7] = [
    b"lowerdir",
    b"upperdir",
    b"workdir",
    b"backend",
    b"nix-check",
    b"watch",
    b"lower-ttl",
];

/// Reads option lists, each the argument of one `-o`; what comes later wins.
pub(crate) fn read(lists: &[OsString], sloppy: bool) -> Result<Options, Fault> {
    let mut options = Options::default();
    for list in lists {
        for option in split_options(list.as_bytes()) {
            if options.set(option)? {
                continue;
            }
            if !sloppy {
                return Err(unknown(option));
            }
            options.forgiven.push(option.to_vec());
        }
    }
    Ok(options)
}

impl Options {
    /// Takes one option; answers false if there is no such option.
    fn set(&mut self, option: &[u8]) -> Result<bool, Fault> {
        let (name, value) = match option.iter().position(|&byte| byte == b'=') {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option, None),
        };
        match (name, value) {
            (b"lowerdir", Some(value)) => self.lower = Some(one_path(name, value)?),
            (b"upperdir", Some(value)) => self.upper = Some(path(name, value)?),
            (b"workdir", Some(value)) => self.work = Some(path(name, value)?),
            (b"lowerdir+" | b"datadir+", Some(value)) => return Err(several(name, value)),
            (b"backend", Some(value)) => {
                self.backend = Some(Backend::read(value)?);
                return Ok(true);
            }
            (b"nix-check", Some(value)) => {
                self.nix_check = match value {
                    b"on" | b"true" | b"yes" | b"1" => NixCheck::On,
                    b"off" | b"false" | b"no" | b"0" => NixCheck::Off,
                    _ => return Err(wrong(name, value, "neither on nor off")),
                }
            }
            (b"remount", None) => {
                self.remount = true;
                return Ok(true);
            }
            (name, None) if WITH_VALUE.contains(&name) => return Ok(false),
            (name, value) if self.of_driver.note(name, value) => {}
            (word, None) if self.attributes.apply(word) => self.words.push(word.to_vec()),
            (name, value) => return Ok(is_for_others(name, value)),
        }
        self.passed.push(option.to_vec());
        Ok(true)
    }
}

fn one_path(name: &[u8], text: &[u8]) -> Result<PathBuf, Fault> {
    if split_unescaped(text, b':').len() > 1 {
        return Err(several(name, text));
    }
    path(name, text)
}

fn path(name: &[u8], text: &[u8]) -> Result<PathBuf, Fault> {
    let plain = unescape_option_value(text).map_err(|bad| {
        let why = format!("{bad}; write a backslash of a path as two");
        wrong(name, text, &why)
    })?;
    if plain.is_empty() {
        return Err(wrong(name, text, "the path is empty"));
    }
    Ok(PathBuf::from(OsString::from_vec(plain)))
}

/// Joins what is to be told to the program `overstore`.
pub(crate) fn joined(options: &[Vec<u8>]) -> OsString {
    OsStr::from_bytes(&options.join(&b',')).to_os_string()
}

fn several(name: &[u8], value: &[u8]) -> Fault {
    wrong(
        name,
        value,
        "there can be only one lower directory; write a colon of a path as \\:",
    )
}

fn wrong(name: &[u8], value: &[u8], why: &str) -> Fault {
    let (name, value) = (name.escape_ascii(), value.escape_ascii());
    Fault::usage(format!("option {name}={value}: {why}"))
}

fn unknown(option: &[u8]) -> Fault {
    let shown = option.escape_ascii();
    if WITH_VALUE.contains(&option) {
        return Fault::usage(format!(
            "option {shown}: needs a value; write {shown}=VALUE"
        ));
    }
    Fault::usage(format!(
        "option {shown}: unknown; see mount.overstore --help"
    ))
}
