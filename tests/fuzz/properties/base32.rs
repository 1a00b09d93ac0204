// SPDX-License-Identifier: MIT OR Apache-2.0
//! Base 32, hashes and content addresses: every value has one spelling in each base.

use overstore::store::{ContentAddress, Hash, base32};

/// Takes digits, or a hash or content address in any spelling.
pub(crate) fn base32(data: &[u8]) {
    let digits = base32::encode(data);
    assert_eq!(digits.len(), base32::encoded_len(data.len()));
    assert_eq!(
        base32::decode(digits.as_bytes(), data.len()).as_deref(),
        Some(data)
    );
    // As many bytes as these digits may stand for.
    for bytes in [data.len() * 5 / 8, data.len() * 5 / 8 + 1] {
        if let Some(decoded) = base32::decode(data, bytes) {
            assert_eq!(base32::encode(&decoded).as_bytes(), data);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(hash) = Hash::parse(text) {
        let hex = format!("{}:{}", hash.algorithm().word(), hash.hex());
        for spelling in [hash.to_string(), hash.sri(), hex] {
            assert_eq!(Hash::parse(&spelling).as_ref(), Some(&hash), "{spelling}");
        }
    }
    if let Some(address) = ContentAddress::parse(text) {
        let printed = address.to_string();
        assert_eq!(ContentAddress::parse(&printed), Some(address), "{printed}");
    }
}
