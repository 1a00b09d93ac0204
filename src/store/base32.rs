// SPDX-License-Identifier: MIT OR Apache-2.0
//! Base 32 as Nix writes hashes: its own alphabet, the last digit first, no padding characters.
//!
//! Invariant: every digest has one spelling, so unused bits of the first digit must be zero.

/// The digits: without e, o, t and u.
pub const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const BITS: usize = 5;

/// Returns how many digits `bytes` bytes take.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(BITS)
}

/// Returns `bytes` in base 32.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |n: usize| {
        let (at, shift) = (n * BITS / 8, n * BITS % 8);
        let low = bytes.get(at).copied().unwrap_or(0);
        let high = bytes.get(at + 1).copied().unwrap_or(0);
        let pair = u16::from_le_bytes([low, high]) >> shift;
        char::from(DIGITS[usize::from(pair & 0x1f)])
    };
    (0..encoded_len(bytes.len())).rev().map(digit).collect()
}

/// Returns the `bytes` bytes that `text` stands for; `None` if it has another length, another
/// digit, or bits that no byte has.
pub fn decode(text: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if text.len() != encoded_len(bytes) {
        return None;
    }
    let mut decoded = vec![0u8; bytes];
    for (n, digit) in text.iter().rev().enumerate() {
        let value = u8::try_from(DIGITS.iter().position(|known| known == digit)?).ok()?;
        let (at, shift) = (n * BITS / 8, n * BITS % 8);
        let [low, high] = (u16::from(value) << shift).to_le_bytes();
        *decoded.get_mut(at)? |= low;
        match decoded.get_mut(at + 1) {
            Some(byte) => *byte |= high,
            None if high == 0 => {}
            None => return None,
        }
    }
    Some(decoded)
}

/// Tells whether `byte` is a digit.
pub fn is_digit(byte: u8) -> bool {
    DIGITS.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_digests() {
        // SHA-256 of nothing, and SHA-1 of nothing.
        let sha256 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let sha1 = "143xibwh31h9bvxzalr0sjvbbvpa6ffs";
        assert_eq!(
            decode(sha256.as_bytes(), 32).map(|b| encode(&b)).as_deref(),
            Some(sha256)
        );
        assert_eq!(
            decode(sha256.as_bytes(), 32).unwrap()[..4],
            [0xe3, 0xb0, 0xc4, 0x42]
        );
        assert_eq!(
            decode(sha1.as_bytes(), 20).unwrap()[..4],
            [0xda, 0x39, 0xa3, 0xee]
        );
    }

    #[test]
    fn refuses_other_spellings() {
        assert_eq!(decode(b"", 0), Some(Vec::new()));
        for (text, bytes) in [
            ("0", 0),
            ("000", 1),
            ("0", 1),
            ("z0", 1),
            ("e0", 1),
            ("0E", 1),
        ] {
            assert_eq!(decode(text.as_bytes(), bytes), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(bytes in prop::collection::vec(any::<u8>(), 1..70)) {
            let text = encode(&bytes);
            prop_assert_eq!(&text, &nix_base32::to_nix_base32(&bytes));
            prop_assert_eq!(decode(text.as_bytes(), bytes.len()), Some(bytes));
        }

        #[test]
        fn one_spelling_for_each(text in "[0-9a-df-np-sv-z]{0,60}", bytes in 0usize..40) {
            if let Some(decoded) = decode(text.as_bytes(), bytes) {
                prop_assert_eq!(encode(&decoded), text);
            }
        }
    }
}
