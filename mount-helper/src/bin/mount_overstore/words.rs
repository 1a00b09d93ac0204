// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words that mount(8) calls its helpers with.

use crate::options::{self, Backend, Options};
use overstore_mount::{Fault, printable};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// By this name the program is Nix's `remount-hook`.
const HOOK: &str = "overstore-refresh";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    /// Refresh the view mounted here.
    Refresh(PathBuf),
    /// Mount, or remount.
    Mount(Box<Wanted>),
}

/// One mount as mount(8) asks for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) spec: OsString,
    pub(crate) merged: PathBuf,
    /// `-s`: unknown options are forgiven.
    pub(crate) sloppy: bool,
    /// `-f`: mount nothing.
    pub(crate) fake: bool,
    /// `-v`: say what is done.
    pub(crate) verbose: bool,
    /// `-N`: the mount namespace, a process id or a file.
    pub(crate) namespace: Option<OsString>,
    pub(crate) options: Options,
}

/// What the words say, before it is known whether they fit together.
#[derive(Default)]
struct Given {
    positional: Vec<OsString>,
    lists: Vec<OsString>,
    of_type: Option<OsString>,
    refresh: bool,
    wanted: Wanted,
}

/// Reads the arguments, program name first.
pub(crate) fn read(args: &[OsString]) -> Result<Command, Fault> {
    let (name, words) = args.split_first().map_or((None, args), |(name, words)| {
        (Path::new(name).file_name(), words)
    });
    let mut given = Given {
        refresh: name == Some(OsStr::new(HOOK)),
        ..Given::default()
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--help" | b"-h" => return Ok(Command::Help),
            b"--version" | b"-V" => return Ok(Command::Version),
            b"--refresh" => given.refresh = true,
            b"--" => given.positional.extend(words.by_ref().cloned()),
            [b'-', b'-', ..] => return Err(unknown(word)),
            [b'-', flags @ ..] if !flags.is_empty() => given.flags(word, flags, &mut words)?,
            _ => given.positional.push(word.clone()),
        }
    }
    given.command()
}

impl Given {
    /// Reads one word of flags, of which the last may take a value.
    fn flags<'a>(
        &mut self,
        word: &OsStr,
        flags: &[u8],
        words: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), Fault> {
        for (at, flag) in flags.iter().enumerate() {
            match flag {
                b's' => self.wanted.sloppy = true,
                b'f' => self.wanted.fake = true,
                b'v' => self.wanted.verbose = true,
                b'n' => {}
                b'o' | b'N' | b't' => {
                    let rest = &flags[at + 1..];
                    let value = match rest {
                        [] => words.next().cloned(),
                        rest => Some(OsString::from_vec(rest.to_vec())),
                    };
                    let value = value.ok_or_else(|| {
                        let flag = flag.escape_ascii();
                        Fault::usage(format!("option -{flag}: needs a value; see --help"))
                    })?;
                    match flag {
                        b'o' => self.lists.push(value),
                        b'N' => self.wanted.namespace = Some(value),
                        _ => self.of_type = Some(value),
                    }
                    return Ok(());
                }
                _ => return Err(unknown(word)),
            }
        }
        Ok(())
    }

    fn command(self) -> Result<Command, Fault> {
        let mut wanted = self.wanted;
        let mut positional = self.positional.into_iter();
        if !self.refresh {
            wanted.spec = positional.next().ok_or_else(|| missing("SPEC"))?;
        }
        wanted.merged = positional.next().ok_or_else(|| missing("DIR"))?.into();
        if let Some(extra) = positional.next() {
            let extra = printable(&extra);
            return Err(Fault::usage(format!(
                "argument {extra}: unexpected; see --help"
            )));
        }
        if self.refresh {
            return Ok(Command::Refresh(wanted.merged));
        }
        wanted.options = options::read(&self.lists, wanted.sloppy)?;
        if let Some(of_type) = &self.of_type {
            let by_type = backend_of_type(of_type)?;
            wanted.options.backend = wanted.options.backend.or(by_type);
        }
        Ok(Command::Mount(Box::new(wanted)))
    }
}

/// What follows the dot of the type names the backend.
fn backend_of_type(of_type: &OsStr) -> Result<Option<Backend>, Fault> {
    let wrong = || Fault::usage(format!("type {}: not overstore", printable(of_type)));
    let rest = of_type.as_bytes().strip_prefix(b"overstore");
    match rest.ok_or_else(wrong)? {
        b"" => Ok(None),
        [b'.', word @ ..] => Backend::read(word).map(Some),
        _ => Err(wrong()),
    }
}

fn unknown(word: &OsStr) -> Fault {
    Fault::usage(format!("option {}: unknown; see --help", printable(word)))
}

fn missing(what: &str) -> Fault {
    Fault::usage(format!("{what} is missing; see mount.overstore --help"))
}
