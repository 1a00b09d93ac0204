// SPDX-License-Identifier: MIT OR Apache-2.0
//! The questions that are asked, and what their answers mean.
//!
//! Invariant: none of them changes the store; a temporary root, which keeps an object from being
//! collected for as long as the connection lives, is the most that is ever left with the daemon.

use super::connection::{Connection, ERROR};
use super::wire::{
    self, Failure, ITEMS_MAX, Message, PATHS_MAX, TEXT_MAX, Version, count, flag, number,
};
use crate::store::{ContentAddress, ObjectName, Outputs, PathInfo, Sha256, StoreDir};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufReader, Chain, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const IS_VALID_PATH: u64 = 1;
const QUERY_REFERRERS: u64 = 6;
const ADD_TEMP_ROOT: u64 = 11;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_PATH_FROM_HASH_PART: u64 = 29;
const QUERY_VALID_PATHS: u64 = 31;
const QUERY_VALID_DERIVERS: u64 = 33;
const NAR_FROM_PATH: u64 = 38;
const QUERY_DERIVATION_OUTPUT_MAP: u64 = 41;

/// The words with which every NAR begins: its magic one, and the length of a parenthesis.
const NAR_BEGINS: &[u8] = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0";
const WORD: usize = 8;

/// A NAR: its first words, and the rest.
pub type NarStream<S> = Chain<Cursor<Vec<u8>>, BufReader<S>>;

const WITH_OUTPUT_MAPS: Version = Version::one(22);
const WITH_SUBSTITUTING: Version = Version::one(27);

impl<S: Read + Write> Connection<S> {
    /// Whether `name` is valid.
    pub fn is_valid(&mut self, dir: &StoreDir, name: &ObjectName) -> Result<bool, Failure> {
        flag(self.ask(&about(IS_VALID_PATH, dir, name))?)
    }

    /// Returns what is known of `name`; `None` if it is not valid.
    pub fn path_info(
        &mut self,
        dir: &StoreDir,
        name: &ObjectName,
    ) -> Result<Option<PathInfo>, Failure> {
        let from = self.ask(&about(QUERY_PATH_INFO, dir, name))?;
        match flag(from)? {
            true => info(from, dir, name).map(Some),
            false => Ok(None),
        }
    }

    /// Returns the valid objects that refer to `name`.
    pub fn referrers(
        &mut self,
        dir: &StoreDir,
        name: &ObjectName,
    ) -> Result<BTreeSet<ObjectName>, Failure> {
        objects(self.ask(&about(QUERY_REFERRERS, dir, name))?, dir)
    }

    /// Returns the valid derivations of which `name` is an output.
    pub fn valid_derivers(
        &mut self,
        dir: &StoreDir,
        name: &ObjectName,
    ) -> Result<BTreeSet<ObjectName>, Failure> {
        objects(self.ask(&about(QUERY_VALID_DERIVERS, dir, name))?, dir)
    }

    /// Returns the outputs with known paths of the valid derivation `drv`.
    pub fn outputs(&mut self, dir: &StoreDir, drv: &ObjectName) -> Result<Outputs, Failure> {
        self.needs(WITH_OUTPUT_MAPS)?;
        let from = self.ask(&about(QUERY_DERIVATION_OUTPUT_MAP, dir, drv))?;
        let mut outputs = Outputs::new();
        for _ in 0..count(from, ITEMS_MAX)? {
            let output = wire::text(from, TEXT_MAX)?;
            if let Some(name) = object_or_none(from, dir)? {
                outputs.insert(output, name);
            }
        }
        Ok(outputs)
    }

    /// Returns the valid object whose hash part is `hash_part`.
    pub fn with_hash_part(
        &mut self,
        dir: &StoreDir,
        hash_part: &str,
    ) -> Result<Option<ObjectName>, Failure> {
        let question = Message::of(QUERY_PATH_FROM_HASH_PART).string(hash_part.as_bytes());
        let found = object_or_none(self.ask(&question)?, dir)?;
        match found {
            Some(other) if other.hash_part() != hash_part => {
                Err(Failure::Nonsense(format!("{other} was not asked for")))
            }
            found => Ok(found),
        }
    }

    /// Returns every valid object.
    pub fn all_valid(&mut self, dir: &StoreDir) -> Result<BTreeSet<ObjectName>, Failure> {
        objects(self.ask(&Message::of(QUERY_ALL_VALID_PATHS))?, dir)
    }

    /// Returns those of `names` that are valid. Nothing is fetched to make them so.
    pub fn valid_among(
        &mut self,
        dir: &StoreDir,
        names: &BTreeSet<ObjectName>,
    ) -> Result<BTreeSet<ObjectName>, Failure> {
        let mut question = Message::of(QUERY_VALID_PATHS).number(names.len() as u64);
        for name in names {
            question = question.string(path(dir, name).as_bytes());
        }
        if self.version() >= WITH_SUBSTITUTING {
            question = question.number(0);
        }
        let valid = objects(self.ask(&question)?, dir)?;
        match valid.iter().find(|name| !names.contains(name)) {
            Some(other) => Err(Failure::Nonsense(format!("{other} was not asked for"))),
            None => Ok(valid),
        }
    }

    /// Keeps `name` from being collected for as long as this connection lives.
    pub fn add_temp_root(&mut self, dir: &StoreDir, name: &ObjectName) -> Result<(), Failure> {
        number(self.ask(&about(ADD_TEMP_ROOT, dir, name))?).map(drop)
    }

    /// Returns the stream in which the NAR of `name` comes next. Only its own structure tells where
    /// it ends, so the connection is given up for it. Daemons say that the answer comes before they
    /// look for the object, and some begin it too: an error may stand in place of the first words.
    pub fn nar(mut self, dir: &StoreDir, name: &ObjectName) -> Result<NarStream<S>, Failure> {
        self.ask(&about(NAR_FROM_PATH, dir, name))?;
        let mut head = Vec::with_capacity(NAR_BEGINS.len());
        for expected in NAR_BEGINS.chunks(WORD) {
            let word = number(self.stream_mut())?.to_le_bytes();
            if word == ERROR.to_le_bytes() {
                return Err(self.error()?);
            }
            if word != expected {
                let word = word.escape_ascii();
                return Err(Failure::Nonsense(format!("{word} does not begin a NAR")));
            }
            head.extend_from_slice(&word);
        }
        Ok(Cursor::new(head).chain(self.into_stream()))
    }
}

fn path(dir: &StoreDir, name: &ObjectName) -> std::ffi::OsString {
    dir.store_path(name).into_os_string()
}

fn about(operation: u64, dir: &StoreDir, name: &ObjectName) -> Message {
    Message::of(operation).string(path(dir, name).as_bytes())
}

/// Reads a path info without its path.
fn info(from: &mut impl Read, dir: &StoreDir, name: &ObjectName) -> Result<PathInfo, Failure> {
    let deriver = object_or_none(from, dir)?;
    let digits = wire::text(from, TEXT_MAX)?;
    let nar_hash = Sha256::from_hex(&digits).ok_or_else(|| odd("NAR hash", digits.as_bytes()))?;
    let references = objects(from, dir)?;
    let registered = number(from)?;
    let registration_time = i64::try_from(registered)
        .map_err(|_| odd("time of registration", registered.to_string().as_bytes()))?;
    let nar_size = number(from)?;
    let ultimate = flag(from)?;
    let mut signatures = BTreeSet::new();
    for _ in 0..count(from, ITEMS_MAX)? {
        signatures.insert(wire::text(from, TEXT_MAX)?);
    }
    let ca = match wire::text(from, TEXT_MAX)?.as_str() {
        "" => None,
        text => Some(
            ContentAddress::parse(text).ok_or_else(|| odd("content address", text.as_bytes()))?,
        ),
    };
    Ok(PathInfo {
        deriver,
        references,
        registration_time,
        ultimate,
        signatures,
        ca,
        ..PathInfo::new(name.clone(), nar_hash, nar_size)
    })
}

fn objects(from: &mut impl Read, dir: &StoreDir) -> Result<BTreeSet<ObjectName>, Failure> {
    let mut names = BTreeSet::new();
    for _ in 0..count(from, PATHS_MAX)? {
        names.insert(object(&wire::bytes(from, TEXT_MAX)?, dir)?);
    }
    Ok(names)
}

fn object_or_none(from: &mut impl Read, dir: &StoreDir) -> Result<Option<ObjectName>, Failure> {
    match wire::bytes(from, TEXT_MAX)?.as_slice() {
        b"" => Ok(None),
        path => object(path, dir).map(Some),
    }
}

fn object(path: &[u8], dir: &StoreDir) -> Result<ObjectName, Failure> {
    match dir.parse(Path::new(OsStr::from_bytes(path))) {
        Some(Ok(name)) => Ok(name),
        Some(Err(why)) => Err(Failure::Nonsense(format!("{}: {why}", shown(path)))),
        None => {
            let dir = dir.as_path().as_os_str().as_bytes();
            let what = format!(
                "{} is not in the store directory {}",
                shown(path),
                shown(dir)
            );
            Err(Failure::Nonsense(what))
        }
    }
}

fn odd(what: &str, found: &[u8]) -> Failure {
    Failure::Nonsense(format!("\"{}\" is no {what}", shown(found)))
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(300)].escape_ascii().to_string()
}
