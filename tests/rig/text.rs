// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text form of a specification: one line per object of a layer, one per operation.
//!
//! Invariant: what is printed parses to the same value. Lines that begin with `#` are comments.

use crate::generate::LONG;
use crate::op::{Access, Given, Manner, Name, Op, Place, Side, Spec, Thing};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

impl Display for Place {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str(".");
        }
        for (number, name) in self.0.iter().enumerate() {
            out.write_str(if number == 0 { "" } else { "/" })?;
            if *name == LONG {
                out.write_str("LONG")?;
                continue;
            }
            for byte in name {
                match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                        write!(out, "{}", char::from(*byte))?
                    }
                    other => write!(out, "%{other:02X}")?,
                }
            }
        }
        Ok(())
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    if text == "LONG" {
        return Ok(LONG.to_vec());
    }
    let mut name = Name::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(escaped) = rest.strip_prefix('%') {
            let digits = escaped
                .get(..2)
                .ok_or_else(|| format!("{text}: a % needs two digits"))?;
            name.push(u8::from_str_radix(digits, 16).map_err(|error| format!("{text}: {error}"))?);
            rest = &escaped[2..];
        } else {
            rest = &rest[first.len_utf8()..];
            name.push(u8::try_from(first).map_err(|error| format!("{text}: {error}"))?);
        }
    }
    match name.as_slice() {
        b"" | b"." | b".." => Err(format!("'{text}' is not a name")),
        _ => Ok(name),
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "." => Ok(Place::default()),
            _ => text
                .split('/')
                .map(parse_name)
                .collect::<Result<_, _>>()
                .map(Place),
        }
    }
}

fn word_of<T: PartialEq>(all: &[(T, &'static str)], value: &T) -> &'static str {
    all.iter()
        .find(|(one, _)| one == value)
        .map_or("?", |(_, word)| word)
}

fn of_word<T: Copy>(all: &[(T, &str)], word: &str) -> Result<T, String> {
    let found = all.iter().find(|(_, one)| *one == word);
    found
        .map(|(value, _)| *value)
        .ok_or_else(|| format!("{word}: what is that?"))
}

impl Display for Op {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Create(at) => write!(out, "create {at}"),
            Op::Mkdir(at) => write!(out, "mkdir {at}"),
            Op::Symlink(at) => write!(out, "symlink {at}"),
            Op::Fifo(at) => write!(out, "fifo {at}"),
            Op::Device(at) => write!(out, "device {at}"),
            Op::Open(slot, at, access) => {
                write!(out, "open {slot} {at} {}", word_of(&Access::ALL, access))
            }
            Op::Read {
                slot,
                offset,
                length,
            } => write!(out, "read {slot} {offset} {length}"),
            Op::Write {
                slot,
                offset,
                length,
                salt,
            } => write!(out, "write {slot} {offset} {length} {salt}"),
            Op::Close(slot) => write!(out, "close {slot}"),
            Op::Fsync(slot) => write!(out, "fsync {slot}"),
            Op::Truncate(at, size) => write!(out, "truncate {at} {size}"),
            Op::Unlink(at) => write!(out, "unlink {at}"),
            Op::Rmdir(at) => write!(out, "rmdir {at}"),
            Op::Rename(from, to, manner) => {
                write!(out, "rename {from} {to} {}", word_of(&Manner::ALL, manner))
            }
            Op::Link(from, to) => write!(out, "link {from} {to}"),
            Op::Chmod(at, mode) => write!(out, "chmod {at} {mode}"),
            Op::SetTimes(at, time) => write!(out, "settimes {at} {time}"),
            Op::ReadDir(at) => write!(out, "readdir {at}"),
            Op::Stat(at) => write!(out, "stat {at}"),
            Op::Remount => write!(out, "remount"),
            Op::HandOver => write!(out, "hand-over"),
            Op::OutsideAddLower(at, false) => write!(out, "outside-add-file {at}"),
            Op::OutsideAddLower(at, true) => write!(out, "outside-add-dir {at}"),
            Op::OutsideRemoveDuplicate(at) => write!(out, "outside-remove-duplicate {at}"),
            Op::OutsideReplaceLower(at) => write!(out, "outside-replace-lower {at}"),
        }
    }
}

fn number<T: FromStr<Err: Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

/// Slots are few; a performer keeps an array of them.
fn slot(word: &str) -> Result<usize, String> {
    number(word).and_then(|slot| match slot < crate::generate::SLOTS {
        true => Ok(slot),
        false => Err(format!("slot {slot}: too many")),
    })
}

fn parse_op(words: &[&str]) -> Result<Op, String> {
    Ok(match *words {
        ["create", at] => Op::Create(at.parse()?),
        ["mkdir", at] => Op::Mkdir(at.parse()?),
        ["symlink", at] => Op::Symlink(at.parse()?),
        ["fifo", at] => Op::Fifo(at.parse()?),
        ["device", at] => Op::Device(at.parse()?),
        ["open", n, at, access] => Op::Open(slot(n)?, at.parse()?, of_word(&Access::ALL, access)?),
        ["read", n, offset, length] => Op::Read {
            slot: slot(n)?,
            offset: number(offset)?,
            length: number(length)?,
        },
        ["write", n, offset, length, salt] => {
            let (offset, length, salt) = (number(offset)?, number(length)?, number(salt)?);
            Op::Write {
                slot: slot(n)?,
                offset,
                length,
                salt,
            }
        }
        ["close", n] => Op::Close(slot(n)?),
        ["fsync", n] => Op::Fsync(slot(n)?),
        ["truncate", at, size] => Op::Truncate(at.parse()?, number(size)?),
        ["unlink", at] => Op::Unlink(at.parse()?),
        ["rmdir", at] => Op::Rmdir(at.parse()?),
        ["rename", from, to, manner] => {
            Op::Rename(from.parse()?, to.parse()?, of_word(&Manner::ALL, manner)?)
        }
        ["link", from, to] => Op::Link(from.parse()?, to.parse()?),
        ["chmod", at, mode] => Op::Chmod(at.parse()?, number(mode)?),
        ["settimes", at, time] => Op::SetTimes(at.parse()?, number(time)?),
        ["readdir", at] => Op::ReadDir(at.parse()?),
        ["stat", at] => Op::Stat(at.parse()?),
        ["remount"] => Op::Remount,
        ["hand-over"] => Op::HandOver,
        ["outside-add-file", at] => Op::OutsideAddLower(at.parse()?, false),
        ["outside-add-dir", at] => Op::OutsideAddLower(at.parse()?, true),
        ["outside-remove-duplicate", at] => Op::OutsideRemoveDuplicate(at.parse()?),
        ["outside-replace-lower", at] => Op::OutsideReplaceLower(at.parse()?),
        _ => return Err(format!("'{}' is no operation", words.join(" "))),
    })
}

impl Display for Given {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Lower {
            "lower"
        } else {
            "upper"
        };
        let place = &self.place;
        match &self.thing {
            Thing::Dir => write!(out, "{side} dir {place}"),
            Thing::Opaque => write!(out, "{side} opaque {place}"),
            Thing::File(length) => write!(out, "{side} file {place} {length}"),
            Thing::Link(from) => write!(out, "{side} link {place} {from}"),
            Thing::Symlink => write!(out, "{side} symlink {place}"),
            Thing::Fifo => write!(out, "{side} fifo {place}"),
            Thing::Whiteout => write!(out, "{side} whiteout {place}"),
        }
    }
}

fn parse_given(side: Side, words: &[&str]) -> Result<Given, String> {
    let (thing, place) = match *words {
        ["dir", at] => (Thing::Dir, at),
        ["opaque", at] => (Thing::Opaque, at),
        ["file", at, length] => (Thing::File(number(length)?), at),
        ["link", at, from] => (Thing::Link(from.parse()?), at),
        ["symlink", at] => (Thing::Symlink, at),
        ["fifo", at] => (Thing::Fifo, at),
        ["whiteout", at] => (Thing::Whiteout, at),
        _ => return Err(format!("'{}' is no object", words.join(" "))),
    };
    Ok(Given {
        side,
        place: place.parse()?,
        thing,
    })
}

impl Display for Spec {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.given
            .iter()
            .try_for_each(|given| writeln!(out, "{given}"))?;
        self.ops.iter().try_for_each(|op| writeln!(out, "{op}"))
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Spec::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            match words.split_first() {
                None => {}
                Some((&"lower", rest)) => spec.given.push(parse_given(Side::Lower, rest)?),
                Some((&"upper", rest)) => spec.given.push(parse_given(Side::Upper, rest)?),
                Some(_) => spec.ops.push(parse_op(&words)?),
            }
        }
        Ok(spec)
    }
}
