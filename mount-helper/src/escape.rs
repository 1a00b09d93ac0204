// SPDX-License-Identifier: MIT OR Apache-2.0
//! The escapes of mount option lists and of `/proc/self/mountinfo`.
//!
//! Invariant: every `escape` has an `unescape` that gives back the very bytes.

use std::fmt;

/// What the kernel writes as octal in source and type; a mount point keeps its `#`.
const ESCAPED_IN_MOUNTINFO: &[u8] = b" \t\n\\#";

/// An option text that ends in the middle of an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadOptionEscape;

impl fmt::Display for BadOptionEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ends in a lone backslash")
    }
}

impl std::error::Error for BadOptionEscape {}

/// Returns `value` as it is written in an option list, the way OverlayFS reads it: backslash,
/// comma and colon each behind a backslash.
pub fn escape_option_value(value: &[u8]) -> Vec<u8> {
    escape_with_backslash(value, b"\\,:")
}

/// Returns the value that was written as `text`: a backslash stands for the byte after it.
pub fn unescape_option_value(text: &[u8]) -> Result<Vec<u8>, BadOptionEscape> {
    let mut value = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        value.push(match byte {
            b'\\' => *bytes.next().ok_or(BadOptionEscape)?,
            _ => byte,
        });
    }
    Ok(value)
}

/// Splits an option list at its commas; the parts keep their escapes, empty ones are left out.
pub fn split_options(text: &[u8]) -> Vec<&[u8]> {
    let mut parts = split_unescaped(text, b',');
    parts.retain(|part| !part.is_empty());
    parts
}

/// Splits `text` at every `separator` that no backslash precedes; the parts keep their escapes.
pub fn split_unescaped(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut escaped = false;
    text.split(|&byte| {
        let separates = byte == separator && !escaped;
        escaped = byte == b'\\' && !escaped;
        separates
    })
    .collect()
}

/// Puts a backslash before each of the `special` bytes.
pub fn escape_with_backslash(value: &[u8], special: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    for &byte in value {
        if special.contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text
}

/// Returns `field` as the kernel writes a source or type in mountinfo.
pub fn escape_mount_field(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    for &byte in field {
        if ESCAPED_IN_MOUNTINFO.contains(&byte) {
            let octal = [byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| b'0' + digit);
            text.push(b'\\');
            text.extend_from_slice(&octal);
        } else {
            text.push(byte);
        }
    }
    text
}

/// Returns what a field of mountinfo stands for; a backslash without three octal digits, which
/// the kernel never writes, stands for itself.
pub fn unescape_mount_field(text: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                field.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                field.push(*first);
                rest = after;
            }
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let special = prop::sample::select(b"\\,:# \t\n=0127%+".to_vec());
        prop::collection::vec(prop_oneof![special, any::<u8>()], 0..64)
    }

    #[test]
    fn splits_at_raw_commas_only() {
        assert_eq!(
            split_options(b"a,b=c\\,d,,e\\\\,f"),
            [&b"a"[..], b"b=c\\,d", b"e\\\\", b"f"]
        );
        assert_eq!(split_options(b""), [b""; 0]);
        assert_eq!(split_unescaped(b"/a\\:b:/c", b':'), [&b"/a\\:b"[..], b"/c"]);
        assert_eq!(unescape_option_value(b"a\\"), Err(BadOptionEscape));
        assert_eq!(unescape_option_value(b"\\a\\,").as_deref(), Ok(&b"a,"[..]));
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(
            escape_mount_field(b"o#v \\\t\n"),
            b"o\\043v\\040\\134\\011\\012"
        );
        assert_eq!(unescape_mount_field(b"/a#b\\040\\134x"), b"/a#b \\x");
        assert_eq!(
            unescape_mount_field(b"\\x\\08\\400\\377"),
            b"\\x\\08\\400\xff"
        );
    }

    proptest! {
        #[test]
        fn option_values_round_trip(value in bytes()) {
            let text = escape_option_value(&value);
            prop_assert_eq!(unescape_option_value(&text), Ok(value));
            prop_assert!(split_unescaped(&text, b',').len() == 1);
            prop_assert!(split_unescaped(&text, b':').len() == 1);
        }

        #[test]
        fn option_lists_round_trip(values in prop::collection::vec(bytes(), 0..5)) {
            let parts: Vec<Vec<u8>> = values
                .iter()
                .map(|value| [b"k=", escape_option_value(value).as_slice()].concat())
                .collect();
            let text = parts.join(&b',');
            prop_assert_eq!(split_options(&text), parts);
        }

        #[test]
        fn mount_fields_round_trip(field in bytes()) {
            let text = escape_mount_field(&field);
            prop_assert!(!text.iter().any(|byte| b" \t\n#".contains(byte)));
            prop_assert_eq!(unescape_mount_field(&text), field);
        }
    }
}
