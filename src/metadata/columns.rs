// SPDX-License-Identifier: MIT OR Apache-2.0
//! The columns of Nix's tables: from what is stored to checked values, and back.
//!
//! Invariant: what is written is spelled as Nix spells it; what is read may have any spelling that
//! Nix reads, and anything else is told with its text.

use crate::error::Error;
use crate::store::{ContentAddress, Hash, ObjectName, Sha256, StoreDir};
use rusqlite::types::ValueRef;
use std::collections::BTreeSet;

/// A value, or why it is not what its column holds.
pub(super) type Parsed<T> = Result<T, String>;

/// How much of a bad value is shown.
const SHOWN_CHARS: usize = 120;

/// Store paths as text: the store directory and a name.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The store directory with a slash behind.
    prefix: String,
}

impl Names {
    /// Returns the spelling of store paths in `store_dir`.
    pub(super) fn new(store_dir: &StoreDir) -> Result<Names, Error> {
        let Some(dir) = store_dir.as_path().to_str() else {
            let what = format!("store directory {}", store_dir.as_path().display());
            return Err(Error::usage(what, "it is not UTF-8, as a database needs"));
        };
        let prefix = format!("{}/", dir.trim_end_matches('/'));
        Ok(Names { prefix })
    }

    /// Returns the store path of `name`.
    pub(super) fn path(&self, name: &ObjectName) -> String {
        self.before(name.as_str())
    }

    /// Returns the text with which the store path begins whose name begins with `start`.
    pub(super) fn before(&self, start: &str) -> String {
        format!("{}{start}", self.prefix)
    }

    /// Parses a store path.
    pub(super) fn parse(&self, value: ValueRef<'_>) -> Parsed<ObjectName> {
        let path = needed(value)?;
        let Some(name) = path.strip_prefix(&self.prefix) else {
            let dir = self.prefix.trim_end_matches('/');
            return Err(format!("{} is no store path of {dir}", shown(path)));
        };
        ObjectName::parse(name.as_bytes()).map_err(|why| format!("{}: {why}", shown(path)))
    }

    /// Parses a store path that may be missing.
    pub(super) fn parse_optional(&self, value: ValueRef<'_>) -> Parsed<Option<ObjectName>> {
        match value {
            ValueRef::Null => Ok(None),
            found => self.parse(found).map(Some),
        }
    }
}

/// Reads a text that may be missing.
pub(super) fn text(value: ValueRef<'_>) -> Parsed<Option<&str>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err("it is not UTF-8".to_owned()),
        },
        other => Err(format!("it is no text but {}", other.data_type())),
    }
}

/// Reads a text.
pub(super) fn needed(value: ValueRef<'_>) -> Parsed<&str> {
    text(value)?.ok_or_else(|| "it is missing".to_owned())
}

/// Reads a number that may be missing.
pub(super) fn number(value: ValueRef<'_>) -> Parsed<Option<i64>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number)),
        other => Err(format!("it is no number but {}", other.data_type())),
    }
}

/// Reads a time in seconds since 1970.
pub(super) fn time(value: ValueRef<'_>) -> Parsed<i64> {
    number(value)?.ok_or_else(|| "it is missing".to_owned())
}

/// Reads the digest of a NAR.
pub(super) fn hash(value: ValueRef<'_>) -> Parsed<Sha256> {
    let text = needed(value)?;
    let hash = Hash::parse(text).ok_or_else(|| format!("{} is no hash", shown(text)))?;
    Sha256::try_from(&hash).map_err(|()| format!("{} is not SHA-256", shown(text)))
}

/// Reads a number of bytes; 0 if it is missing.
pub(super) fn size(value: ValueRef<'_>) -> Parsed<u64> {
    let number = number(value)?.unwrap_or(0);
    u64::try_from(number).map_err(|_| format!("{number} is no size"))
}

/// Reads signatures with blanks between them.
pub(super) fn signatures(value: ValueRef<'_>) -> Parsed<BTreeSet<String>> {
    let words = text(value)?.unwrap_or("").split(' ');
    let one = |word: &str| match word.split_once(':') {
        Some((key, digits)) if !key.is_empty() && !digits.is_empty() => Ok(word.to_owned()),
        _ => Err(format!("{} is no signature", shown(word))),
    };
    words.filter(|word| !word.is_empty()).map(one).collect()
}

/// Reads a content address; an empty text is none.
pub(super) fn content_address(value: ValueRef<'_>) -> Parsed<Option<ContentAddress>> {
    match text(value)? {
        None | Some("") => Ok(None),
        Some(text) => match ContentAddress::parse(text) {
            Some(address) => Ok(Some(address)),
            None => Err(format!("{} is no content address", shown(text))),
        },
    }
}

/// Returns the text of a digest.
pub(super) fn hash_text(hash: &Sha256) -> String {
    format!("sha256:{}", hash.hex())
}

/// Returns the text of signatures; `None` for none.
pub(super) fn signatures_text(signatures: &BTreeSet<String>) -> Option<String> {
    if signatures.is_empty() {
        return None;
    }
    let words: Vec<&str> = signatures.iter().map(String::as_str).collect();
    Some(words.join(" "))
}

/// Returns the number for a size, `None` for one that is not known.
pub(super) fn size_number(size: u64) -> Parsed<Option<i64>> {
    match i64::try_from(size) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(format!("{size} bytes are more than a database can tell")),
    }
}

/// A text for a message: on one line, and not long.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(SHOWN_CHARS).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    format!("'{}'", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Algorithm;
    use std::path::Path;

    const NAME: &str = "00000000000000000000000000000000-a";

    fn names(dir: &str) -> Names {
        Names::new(&StoreDir::new(Path::new(dir)).unwrap()).unwrap()
    }

    fn text_of(text: &str) -> ValueRef<'_> {
        ValueRef::Text(text.as_bytes())
    }

    #[test]
    fn store_paths_have_one_spelling() {
        for dir in ["/nix/store", "/"] {
            let names = names(dir);
            let name = ObjectName::parse(NAME.as_bytes()).unwrap();
            let path = names.path(&name);
            assert_eq!(names.parse(text_of(&path)), Ok(name));
        }
        let names = names("/nix/store");
        for bad in [
            "",
            "/nix/store",
            "/nix/store//",
            "/nix/store/./",
            "/other/",
            "/nix/store/x/",
        ] {
            let path = format!("{bad}{NAME}");
            assert!(names.parse(text_of(&path)).is_err(), "{path}");
        }
        assert_eq!(names.parse_optional(ValueRef::Null), Ok(None));
        assert!(names.parse_optional(text_of("")).is_err());
        assert!(names.parse(ValueRef::Null).is_err());
    }

    #[test]
    fn hashes_are_read_in_any_base_and_written_in_one() {
        let digest = Sha256::of(b"x");
        let hex = hash_text(&digest);
        assert_eq!(hex, format!("sha256:{}", digest.hex()));
        for spelled in [hex, digest.to_string(), digest.sri()] {
            assert_eq!(hash(text_of(&spelled)), Ok(digest), "{spelled}");
        }
        let sha1 = Hash::of(Algorithm::Sha1, b"x").to_string();
        for bad in ["", "sha256:", &digest.hex(), &sha1] {
            assert!(hash(text_of(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_has_a_meaning() {
        assert_eq!(size(ValueRef::Null), Ok(0));
        assert_eq!(size(ValueRef::Integer(7)), Ok(7));
        assert!(size(ValueRef::Integer(-1)).is_err());
        assert!(size(text_of("many")).is_err());
        assert_eq!(size_number(0), Ok(None));
        assert_eq!(size_number(7), Ok(Some(7)));
        assert!(size_number(u64::MAX).is_err());
        assert_eq!(signatures(ValueRef::Null), Ok(BTreeSet::new()));
        assert_eq!(content_address(text_of("")), Ok(None));
    }

    #[test]
    fn signatures_are_words() {
        let set: BTreeSet<String> = ["b:2".to_owned(), "a:1".to_owned()].into();
        assert_eq!(signatures(text_of(" b:2  a:1 ")), Ok(set.clone()));
        assert_eq!(signatures_text(&set).as_deref(), Some("a:1 b:2"));
        assert_eq!(signatures_text(&BTreeSet::new()), None);
        for bad in ["a", ":1", "a:", "a:1 b"] {
            assert!(signatures(text_of(bad)).is_err(), "{bad}");
        }
        assert!(signatures(ValueRef::Blob(b"a:1")).is_err());
        assert!(signatures(ValueRef::Text(b"a:\xff")).is_err());
    }

    #[test]
    fn long_values_are_cut() {
        let why = content_address(text_of(&"\n".repeat(1000))).unwrap_err();
        assert!(why.len() < 300 && !why.contains('\n'), "{why}");
    }
}
