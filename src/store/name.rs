// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of store objects: `<32 nix32 characters>-<name>`.
//!
//! Invariant: an [`ObjectName`] satisfies all of Nix's rules, so it is plain ASCII without `/`.

use super::base32;
use std::fmt;

/// Length of the hash part of a store object name.
pub const HASH_PART_BYTES: usize = 32;

/// Greatest length of the name part: with hash part and dash, Nix leaves 11 bytes of the 255 of
/// a file name for suffixes such as `.lock`.
pub const NAME_PART_MAX_BYTES: usize = 211;

/// The name of a store object, checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Box<str>);

/// Why some bytes are not the name of a store object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// There are no 32 characters and a dash.
    NoHashPart,
    /// The hash part holds a byte that is not a nix32 digit.
    BadHashPart(u8),
    /// Nothing follows the dash.
    EmptyName,
    /// The name part exceeds [`NAME_PART_MAX_BYTES`].
    LongName,
    /// The name part holds a byte that Nix does not allow.
    BadName(u8),
    /// The name part, or what stands before its first dash, is `.` or `..`.
    DotName,
}

impl ObjectName {
    /// Parses the name of a directory entry.
    pub fn parse(bytes: &[u8]) -> Result<ObjectName, NameError> {
        check(bytes)?;
        // A checked name is ASCII, so this cannot fail; the error keeps it from being a panic.
        let text = std::str::from_utf8(bytes).map_err(|_| NameError::BadName(b'?'))?;
        Ok(ObjectName(text.into()))
    }

    /// Tells whether `bytes` is the name of a store object, without keeping it.
    pub fn is_valid(bytes: &[u8]) -> bool {
        check(bytes).is_ok()
    }

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the 32 characters in front of the dash.
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_PART_BYTES]
    }

    /// Returns what follows the dash.
    pub fn name_part(&self) -> &str {
        &self.0[HASH_PART_BYTES + 1..]
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::NoHashPart => f.write_str("no 32 characters and a dash at the start"),
            NameError::BadHashPart(byte) => {
                write!(
                    f,
                    "'{}' is not a digit of a store hash",
                    byte.escape_ascii()
                )
            }
            NameError::EmptyName => f.write_str("nothing follows the dash"),
            NameError::LongName => {
                write!(
                    f,
                    "the name part has more than {NAME_PART_MAX_BYTES} characters"
                )
            }
            NameError::BadName(byte) => {
                write!(
                    f,
                    "'{}' is not allowed in a store name",
                    byte.escape_ascii()
                )
            }
            NameError::DotName => f.write_str("the name part is '.' or '..', or starts so"),
        }
    }
}

impl std::error::Error for NameError {}

fn check(bytes: &[u8]) -> Result<(), NameError> {
    let Some((hash, [b'-', name @ ..])) = bytes.split_at_checked(HASH_PART_BYTES) else {
        return Err(NameError::NoHashPart);
    };
    if let Some(&byte) = hash.iter().find(|byte| !base32::is_digit(**byte)) {
        return Err(NameError::BadHashPart(byte));
    }
    check_name_part(name)
}

fn check_name_part(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::EmptyName);
    }
    if name.len() > NAME_PART_MAX_BYTES {
        return Err(NameError::LongName);
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(byte);
    if let Some(&byte) = name.iter().find(|byte| !allowed(byte)) {
        return Err(NameError::BadName(byte));
    }
    match name.split(|&byte| byte == b'-').next() {
        Some(b"." | b"..") => Err(NameError::DotName),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0";

    fn parse(name: &str) -> Result<ObjectName, NameError> {
        ObjectName::parse(format!("{HASH}-{name}").as_bytes())
    }

    #[test]
    fn splits_a_name() {
        let name = parse("hello-2.12.drv").unwrap();
        assert_eq!(name.hash_part(), HASH);
        assert_eq!(name.name_part(), "hello-2.12.drv");
        assert_eq!(name.to_string(), format!("{HASH}-hello-2.12.drv"));
    }

    #[test]
    fn holds_every_name_rule() {
        for good in [
            "d",
            "+-._?=",
            "-",
            "-.",
            "...",
            ".a",
            "..a-b",
            "a-.",
            &"x".repeat(211),
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let table: &[(&str, NameError)] = &[
            ("", NameError::EmptyName),
            (&"x".repeat(212), NameError::LongName),
            (".", NameError::DotName),
            ("..", NameError::DotName),
            (".-a", NameError::DotName),
            ("..-a", NameError::DotName),
            ("a b", NameError::BadName(b' ')),
            ("a/b", NameError::BadName(b'/')),
            ("a~", NameError::BadName(b'~')),
            ("\u{e9}", NameError::BadName(0xc3)),
        ];
        for (bad, error) in table {
            assert_eq!(parse(bad), Err(*error), "{bad}");
        }
    }

    #[test]
    fn holds_the_hash_rules() {
        let no_dash = format!("{HASH}_d");
        for bad in [
            b"".as_slice(),
            b".links",
            HASH.as_bytes(),
            no_dash.as_bytes(),
        ] {
            assert_eq!(ObjectName::parse(bad), Err(NameError::NoHashPart));
        }
        for digit in b"eotuA-.\xff" {
            let mut bytes = format!("{HASH}-d").into_bytes();
            bytes[31] = *digit;
            assert_eq!(
                ObjectName::parse(&bytes),
                Err(NameError::BadHashPart(*digit))
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(ObjectName::is_valid(&bytes), ObjectName::parse(&bytes).is_ok());
        }

        #[test]
        fn parts_join_to_the_whole(name in "[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]{0,40}") {
            let parsed = parse(&name).unwrap();
            prop_assert_eq!(parsed.name_part(), name);
            prop_assert_eq!(format!("{}-{}", parsed.hash_part(), parsed.name_part()), parsed.as_str());
        }
    }
}
