// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hashes in the spellings of Nix: `sha256:` with hexadecimal or base-32 digits, and `sha256-` with
//! base 64 (SRI).
//!
//! Invariant: a [`struct@Hash`] has exactly the bytes of its algorithm.

use super::base32;
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::Digest as _;
use std::fmt;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, of old downloads.
    Md5,
    /// SHA-1, of old downloads and of git.
    Sha1,
    /// SHA-256, of everything in a store.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// One digest and its algorithm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algorithm: Algorithm,
    bytes: Box<[u8]>,
}

/// A SHA-256 digest: what a store knows its objects by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// A computation of a digest, by pieces.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 4] = [
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha512,
    ];

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Returns the algorithm of this word.
    pub fn parse(word: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|known| known.word() == word)
    }

    /// Returns the size of a digest, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    /// Begins a computation.
    pub fn hasher(self) -> Hasher {
        Hasher(match self {
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }
}

impl Hasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest.
    pub fn finish(self) -> Hash {
        let (algorithm, bytes) = match self.0 {
            State::Md5(state) => (Algorithm::Md5, state.finalize().to_vec()),
            State::Sha1(state) => (Algorithm::Sha1, state.finalize().to_vec()),
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        Hash {
            algorithm,
            bytes: bytes.into(),
        }
    }
}

impl Hash {
    /// Computes the hash of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Hash {
        let mut hasher = algorithm.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Takes the bytes of a digest; `None` if their number is wrong.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Hash> {
        (bytes.len() == algorithm.bytes()).then(|| Hash {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// Parses `sha256:DIGITS` (hexadecimal, base 32 or base 64, told apart by their number) or
    /// `sha256-BASE64`.
    pub fn parse(text: &str) -> Option<Hash> {
        if let Some((word, digits)) = text.split_once(':') {
            return Hash::parse_digits(Algorithm::parse(word)?, digits);
        }
        let (word, digits) = text.split_once('-')?;
        let algorithm = Algorithm::parse(word)?;
        Hash::new(algorithm, &BASE64.decode(digits.as_bytes()).ok()?)
    }

    /// Parses digits alone, whose number tells the base.
    pub fn parse_digits(algorithm: Algorithm, digits: &str) -> Option<Hash> {
        let (digits, bytes) = (digits.as_bytes(), algorithm.bytes());
        let decoded = match digits.len() {
            len if len == bytes * 2 => HEXLOWER_PERMISSIVE.decode(digits).ok()?,
            len if len == base32::encoded_len(bytes) => base32::decode(digits, bytes)?,
            _ => BASE64.decode(digits).ok()?,
        };
        Hash::new(algorithm, &decoded)
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the digest.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the hexadecimal digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.bytes)
    }

    /// Returns the base-32 digits.
    pub fn base32(&self) -> String {
        base32::encode(&self.bytes)
    }

    /// Returns the hash as `sha256-BASE64`.
    pub fn sri(&self) -> String {
        format!("{}-{}", self.algorithm.word(), BASE64.encode(&self.bytes))
    }
}

impl Sha256 {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Parses hexadecimal digits.
    pub fn from_hex(digits: &str) -> Option<Sha256> {
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        Some(Sha256(bytes.try_into().ok()?))
    }

    /// Returns the hexadecimal digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Returns the base-32 digits.
    pub fn base32(&self) -> String {
        base32::encode(&self.0)
    }

    /// Returns the digest as `sha256-BASE64`.
    pub fn sri(&self) -> String {
        Hash::from(*self).sri()
    }
}

impl From<Sha256> for Hash {
    fn from(digest: Sha256) -> Hash {
        Hash {
            algorithm: Algorithm::Sha256,
            bytes: digest.0.into(),
        }
    }
}

impl TryFrom<&Hash> for Sha256 {
    type Error = ();

    fn try_from(hash: &Hash) -> Result<Sha256, ()> {
        match hash.algorithm {
            Algorithm::Sha256 => hash.bytes.as_ref().try_into().map(Sha256).map_err(drop),
            _ => Err(()),
        }
    }
}

/// `sha256:` and base-32 digits.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.word(), self.base32())
    }
}

/// `sha256:` and base-32 digits.
impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.base32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for algorithm in Algorithm::ALL {
            let hash = Hash::of(algorithm, b"hello");
            let hex = format!("{}:{}", algorithm.word(), hash.hex());
            for text in [
                hash.to_string(),
                hash.sri(),
                hex.to_uppercase()
                    .replace(&algorithm.word().to_uppercase(), algorithm.word()),
                hex,
            ] {
                assert_eq!(Hash::parse(&text), Some(hash.clone()), "{text}");
            }
        }
        let hello = "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic";
        assert_eq!(Sha256::of(b"hello").to_string(), hello);
    }

    #[test]
    fn other_lengths_are_refused() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:00",
            "md5:e0",
            "sha3:00",
            "sha256-AA==",
            "sha1:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
        ] {
            assert_eq!(Hash::parse(text), None, "{text}");
        }
        assert!(Hash::new(Algorithm::Md5, &[0; 15]).is_none());
        assert!(Sha256::try_from(&Hash::of(Algorithm::Sha1, b"")).is_err());
    }
}
