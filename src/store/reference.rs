// SPDX-License-Identifier: MIT OR Apache-2.0
//! Store URLs, taken apart exactly as Nix takes them apart.
//!
//! Decides scheme, path and settings; what a setting means is left to `layout`. Invariant: the
//! settings are decoded once, and a setting that is given twice counts as first given.

use super::path::absolute;
use super::percent::{self, BadEscape, is_unreserved};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A store URL in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReference {
    /// Which store.
    pub target: Target,
    /// The settings: decoded name and value, in the order given, each name once.
    pub settings: Vec<(Vec<u8>, Vec<u8>)>,
    /// What Nix passes over in silence, or nearly so, and a user would want to know.
    pub notes: Vec<Note>,
}

/// The store that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `auto` or nothing: the local store if it may be written, else the daemon.
    Auto,
    /// A scheme with a path.
    Scheme {
        /// The scheme, as spelled.
        scheme: String,
        /// Authority and path, decoded; empty if the URL gives none.
        path: Vec<u8>,
    },
}

/// Part of a URL without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// This part of the query has no `=`.
    NoValue(Vec<u8>),
    /// This setting was given before.
    Repeated(Vec<u8>),
    /// What follows a raw `#`.
    Fragment(Vec<u8>),
}

/// Why Nix cannot parse a store URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceError {
    /// The query (the part behind `?`) holds a byte that must be escaped.
    QueryByte(u8),
    /// The query holds a broken escape.
    QueryEscape(BadEscape),
    /// This is neither a URL nor a path.
    NotAStore,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NoValue(part) => {
                write!(f, "'{}' has no '=' and is ignored", part.escape_ascii())
            }
            Note::Repeated(name) => {
                write!(
                    f,
                    "setting {} is given twice; the first counts",
                    name.escape_ascii()
                )
            }
            Note::Fragment(text) => write!(
                f,
                "'#{}' is ignored, as Nix does; write %23 for a '#' that belongs to a value",
                text.escape_ascii()
            ),
        }
    }
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReferenceError::QueryByte(byte) => write!(
                f,
                "'{}' must be written as %{byte:02X} behind the '?'",
                byte.escape_ascii()
            ),
            ReferenceError::QueryEscape(bad) => write!(f, "{bad} behind the '?'"),
            ReferenceError::NotAStore => f.write_str("neither a store URL nor a path"),
        }
    }
}

impl std::error::Error for ReferenceError {}

impl StoreReference {
    /// Parses `text`; a path (anything with `/` and without `://`) is taken relative to `cwd`.
    pub fn parse(text: &[u8], cwd: &Path) -> Result<StoreReference, ReferenceError> {
        match Url::split(text) {
            Some(url) => url.into_reference(),
            None => shorthand(text, cwd),
        }
    }
}

/// A URL with a scheme, in raw parts that hold valid characters; only the query is unchecked.
struct Url<'a> {
    scheme: &'a str,
    authority_and_path: &'a [u8],
    query: &'a [u8],
    fragment: Option<&'a [u8]>,
}

impl<'a> Url<'a> {
    fn split(text: &'a [u8]) -> Option<Url<'a>> {
        let (scheme, rest) = split_once(text, b':')?;
        let scheme = std::str::from_utf8(scheme)
            .ok()
            .filter(|name| is_scheme(name))?;
        let (rest, fragment) = match split_once(rest, b'#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (hierarchy, query) = split_once(rest, b'?').unwrap_or((rest, b""));
        let authority_and_path = hierarchy.strip_prefix(b"//").unwrap_or(hierarchy);
        let valid = |byte: &u8| is_path_char(*byte) || b"/[]%".contains(byte);
        let whole = authority_and_path.iter().all(valid)
            && percent::decode(authority_and_path).is_ok()
            && fragment.is_none_or(|text| text.iter().all(|b| b.is_ascii_graphic() || *b == b' '));
        whole.then_some(Url {
            scheme,
            authority_and_path,
            query,
            fragment,
        })
    }

    fn into_reference(self) -> Result<StoreReference, ReferenceError> {
        let (settings, mut notes) = parse_query(self.query)?;
        if let Some(text) = self.fragment {
            notes.push(Note::Fragment(text.to_vec()));
        }
        let path =
            percent::decode(self.authority_and_path).map_err(|_| ReferenceError::NotAStore)?;
        Ok(StoreReference {
            target: Target::Scheme {
                scheme: self.scheme.to_owned(),
                path,
            },
            settings,
            notes,
        })
    }
}

/// Parses what is not a URL: nothing, `auto`, `daemon`, `local`, or a path; each with a query.
fn shorthand(text: &[u8], cwd: &Path) -> Result<StoreReference, ReferenceError> {
    let (base, query) = split_once(text, b'?').unwrap_or((text, b""));
    let (settings, notes) = parse_query(query)?;
    let scheme = |scheme: &str, path: Vec<u8>| Target::Scheme {
        scheme: scheme.to_owned(),
        path,
    };
    let has_authority = base.windows(3).any(|part| part == b"://");
    let target = match base {
        b"" | b"auto" => Target::Auto,
        b"daemon" => scheme("unix", Vec::new()),
        b"local" => scheme("local", Vec::new()),
        path if path.contains(&b'/') && !has_authority => {
            let path = absolute(path, cwd).ok_or(ReferenceError::NotAStore)?;
            scheme("local", path.as_os_str().as_bytes().to_vec())
        }
        _ => return Err(ReferenceError::NotAStore),
    };
    Ok(StoreReference {
        target,
        settings,
        notes,
    })
}

type Query = (Vec<(Vec<u8>, Vec<u8>)>, Vec<Note>);

fn parse_query(query: &[u8]) -> Result<Query, ReferenceError> {
    let mut settings: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut notes = Vec::new();
    if query.is_empty() {
        return Ok((settings, notes));
    }
    // Nix tolerates a raw space and quote here, beyond RFC 3986.
    let valid = |byte: &u8| is_path_char(*byte) || b"/?[]% \"".contains(byte);
    if let Some(&byte) = query.iter().find(|byte| !valid(byte)) {
        return Err(ReferenceError::QueryByte(byte));
    }
    for pair in query.split(|&byte| byte == b'&') {
        let Some((name, value)) = split_once(pair, b'=') else {
            percent::decode(pair).map_err(ReferenceError::QueryEscape)?;
            notes.push(Note::NoValue(pair.to_vec()));
            continue;
        };
        let name = percent::decode(name).map_err(ReferenceError::QueryEscape)?;
        let value = percent::decode(value).map_err(ReferenceError::QueryEscape)?;
        if settings.iter().any(|(known, _)| *known == name) {
            notes.push(Note::Repeated(name));
        } else {
            settings.push((name, value));
        }
    }
    Ok((settings, notes))
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|&byte| byte == at)?;
    Some((&text[..position], &text[position + 1..]))
}

fn is_scheme(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 "pchar" without its escapes.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
