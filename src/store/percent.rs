// SPDX-License-Identifier: MIT OR Apache-2.0
//! Percent-encoding as Nix reads and writes it: over bytes, upper-case hex, `+` is a plus.

use std::fmt;

/// What Nix leaves raw in a query besides the unreserved characters.
const RAW_IN_QUERY: &[u8] = b":@/?";

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A `%` that two hexadecimal digits do not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEscape {
    /// Position of the `%`, in bytes.
    pub at: usize,
}

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'%' at byte {} is not followed by two hexadecimal digits",
            self.at
        )
    }
}

impl std::error::Error for BadEscape {}

/// Returns `text` with every `%XX` replaced by its byte.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'%' {
            bytes.push(escaped_byte(text, at).ok_or(BadEscape { at })?);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    Ok(bytes)
}

/// Returns `bytes` with everything escaped that is neither unreserved nor in `keep`.
pub fn encode(bytes: &[u8], keep: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_unreserved(byte) || (byte.is_ascii() && keep.contains(&byte)) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
    text
}

/// Returns `bytes` as one key or value of a URL query.
pub fn encode_query_value(bytes: &[u8]) -> String {
    encode(bytes, RAW_IN_QUERY)
}

/// Tells whether `byte` never needs an escape (RFC 3986 "unreserved").
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn escaped_byte(text: &[u8], at: usize) -> Option<u8> {
    let high = hex_digit(*text.get(at + 1)?)?;
    let low = hex_digit(*text.get(at + 2)?)?;
    Some(high << 4 | low)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_bytes_and_refuses_broken_escapes() {
        assert_eq!(decode(b"%2Fa%2fb+c%ff").unwrap(), b"/a/b+c\xff");
        for (text, at) in [
            (&b"%"[..], 0),
            (b"a%2", 1),
            (b"%zz", 0),
            (b"%25%", 3),
            (b"%+1", 0),
        ] {
            assert_eq!(decode(text), Err(BadEscape { at }), "{text:?}");
        }
    }

    #[test]
    fn writes_query_values_as_nix_does() {
        assert_eq!(
            encode_query_value(b"local://?root=/l&x"),
            "local://?root%3D/l%26x"
        );
        assert_eq!(encode_query_value(b"/a b+%"), "/a%20b%2B%25");
    }

    proptest! {
        #[test]
        fn round_trips_any_bytes(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"%&=+?#/ \"\\,:;\n".to_vec())], 0..64)) {
            let text = encode_query_value(&bytes);
            prop_assert!(text.bytes().all(|b| is_unreserved(b) || b"%:@/?".contains(&b)));
            prop_assert_eq!(decode(text.as_bytes()).unwrap(), bytes);
        }
    }
}
