// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signatures of store objects: Ed25519 keys in Nix's text, and what exactly is signed.
//!
//! Invariant: a secret key is wiped from memory with its [`SecretKey`], and is never printed.

use super::dir::StoreDir;
use super::make;
use super::path_info::PathInfo;
use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use zeroize::Zeroizing;

const SECRET_SIZE: usize = 64;
const PUBLIC_SIZE: usize = 32;
const SIGNATURE_SIZE: usize = 64;

/// A key that signs, with its name.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

/// A key that verifies, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// There is no name before a colon, or it has a blank in it.
    NoName,
    /// What follows the colon is not base 64 of so many bytes.
    BadDigits(usize),
    /// The bytes are no key.
    NoKey,
}

/// The keys whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(BTreeMap<String, PublicKey>);

impl SecretKey {
    /// Parses `NAME:BASE64`; blanks around it are passed over. The text remains the caller's to
    /// wipe.
    pub fn parse(text: &str) -> Result<SecretKey, KeyError> {
        let (name, digits) = split(text)?;
        let bytes = Zeroizing::new(decode::<SECRET_SIZE>(digits)?);
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| KeyError::NoKey)?;
        Ok(SecretKey {
            name: name.to_owned(),
            key,
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// Signs `bytes`: `NAME:BASE64`.
    pub fn sign(&self, bytes: &[u8]) -> String {
        let signature = self.key.sign(bytes);
        format!("{}:{}", self.name, BASE64.encode(&signature.to_bytes()))
    }

    /// Signs the fingerprint of `info`; `None` if the size of its NAR is not known.
    pub fn sign_info(&self, dir: &StoreDir, info: &PathInfo) -> Option<String> {
        Some(self.sign(&fingerprint(dir, info)?))
    }
}

/// The name alone.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Parses `NAME:BASE64`; blanks around it are passed over.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        let (name, digits) = split(text)?;
        let bytes = decode::<PUBLIC_SIZE>(digits)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NoKey)?;
        Ok(PublicKey {
            name: name.to_owned(),
            key,
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature`, as Nix spells it, is this key's of `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &str) -> bool {
        let Ok((name, digits)) = split(signature) else {
            return false;
        };
        let Ok(signature) = decode::<SIGNATURE_SIZE>(digits) else {
            return false;
        };
        let signature = Signature::from_bytes(&signature);
        name == self.name && self.key.verify_strict(bytes, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl TrustedKeys {
    /// Adds a key; one of the same name is replaced.
    pub fn insert(&mut self, key: PublicKey) {
        self.0.insert(key.name.clone(), key);
    }

    /// Returns how many of the signatures of `info` are good and of these keys.
    pub fn count(&self, dir: &StoreDir, info: &PathInfo) -> usize {
        let Some(fingerprint) = fingerprint(dir, info) else {
            return 0;
        };
        let good = |signature: &&String| {
            let name = signature.split(':').next().unwrap_or_default();
            let key = self.0.get(name);
            key.is_some_and(|key| key.verifies(&fingerprint, signature))
        };
        info.signatures.iter().filter(good).count()
    }

    /// Whether `info` needs no more trust: its content address leads to its name, or it has
    /// `wanted` good signatures of these keys.
    pub fn is_fully_signed(&self, dir: &StoreDir, info: &PathInfo, wanted: usize) -> bool {
        make::reproduces(dir, info) == Some(true) || self.count(dir, info) >= wanted
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> TrustedKeys {
        let mut trusted = TrustedKeys::default();
        keys.into_iter().for_each(|key| trusted.insert(key));
        trusted
    }
}

/// Returns what a signature of `info` signs; `None` if the size of its NAR is not known.
pub fn fingerprint(dir: &StoreDir, info: &PathInfo) -> Option<Vec<u8>> {
    if info.nar_size == 0 {
        return None;
    }
    let path = |name| dir.store_path(name).into_os_string();
    let references: Vec<_> = info.references.iter().map(path).collect();
    let references: Vec<&[u8]> = references.iter().map(|path| path.as_bytes()).collect();
    Some(
        [
            b"1;",
            path(&info.name).as_bytes(),
            format!(";{};{};", info.nar_hash, info.nar_size).as_bytes(),
            &references.join(&b','),
        ]
        .concat(),
    )
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::NoName => f.write_str("it does not begin with a name and a colon"),
            KeyError::BadDigits(bytes) => {
                write!(f, "what follows the colon is not base 64 of {bytes} bytes")
            }
            KeyError::NoKey => f.write_str("its bytes are no Ed25519 key"),
        }
    }
}

impl std::error::Error for KeyError {}

fn split(text: &str) -> Result<(&str, &str), KeyError> {
    let (name, digits) = text.trim().split_once(':').ok_or(KeyError::NoName)?;
    // Signatures are kept in a list with blanks between them.
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(KeyError::NoName);
    }
    Ok((name, digits))
}

fn decode<const SIZE: usize>(digits: &str) -> Result<[u8; SIZE], KeyError> {
    let bad = KeyError::BadDigits(SIZE);
    // One that is as long as it should be: nothing else is worth memory.
    if digits.len() != BASE64.encode_len(SIZE) {
        return Err(bad);
    }
    let decoded = Zeroizing::new(BASE64.decode(digits.as_bytes()).map_err(|_| bad)?);
    decoded.as_slice().try_into().map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::super::content_address::ContentAddress;
    use super::super::hash::Sha256;
    use super::super::name::ObjectName;
    use super::*;
    use std::path::Path;

    // Made by `nix key generate-secret` and `nix store sign`.
    const SECRET: &str = "test-1:VlnklGmf9n8in90gGenBtED4wu/icT/yP/CDYDF9QA0MbpU5Vh1i8OEDB6MsQ5R2\
                          KhDoO9iGYjpJDFmyakI8Mw==";
    const PUBLIC: &str = "test-1:DG6VOVYdYvDhAwejLEOUdioQ6DvYhmI6SQxZsmpCPDM=";
    const SIGNATURE: &str = "test-1:bz9h1cF9OwuOtAgFcpGcDKR6zG5euGL55dzV2G54h7JBaMeWmNgsl9y1UYDnv\
                             dKlG3EhAMqfzEPqNYvOkdf8Dg==";

    fn dir() -> StoreDir {
        StoreDir::new(Path::new("/nix/store")).unwrap()
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text.as_bytes()).unwrap()
    }

    fn info() -> PathInfo {
        let digest = "31d78a8dab8fe56f96231a683cabdecbc6e092f38224cd6c320322d77c171a1d";
        let own = name("00000000000000000000000000000005-y");
        let mut info = PathInfo::new(own, Sha256::from_hex(digest).unwrap(), 160);
        info.references = [
            name("00000000000000000000000000000003-c"),
            name("00000000000000000000000000000009-z"),
        ]
        .into();
        info.signatures.insert(SIGNATURE.to_owned());
        info
    }

    #[test]
    fn signs_as_nix_does() {
        let key = SecretKey::parse(&format!("{SECRET}\n")).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(key.sign_info(&dir(), &info()).as_deref(), Some(SIGNATURE));
        let public = PublicKey::parse(PUBLIC).unwrap();
        assert_eq!((public.name(), key.name()), ("test-1", "test-1"));
        let signed = fingerprint(&dir(), &info()).unwrap();
        assert!(public.verifies(&signed, SIGNATURE));
    }

    #[test]
    fn other_signatures_are_refused() {
        let public = PublicKey::parse(PUBLIC).unwrap();
        let signed = fingerprint(&dir(), &info()).unwrap();
        let mut other = info();
        other.nar_size += 1;
        assert!(!public.verifies(&fingerprint(&dir(), &other).unwrap(), SIGNATURE));
        for wrong in [
            "",
            "test-1",
            "test-1:",
            &SIGNATURE.replace("test-1", "test-2"),
            &SIGNATURE.replace("bz9h", "bz9i"),
            &SIGNATURE[..SIGNATURE.len() - 4],
        ] {
            assert!(!public.verifies(&signed, wrong), "{wrong}");
        }
        other.nar_size = 0;
        assert_eq!(fingerprint(&dir(), &other), None);
        assert_eq!(TrustedKeys::from_iter([public]).count(&dir(), &other), 0);
    }

    #[test]
    fn who_is_fully_signed() {
        let trusted = TrustedKeys::from_iter([PublicKey::parse(PUBLIC).unwrap()]);
        let mut info = info();
        assert!(trusted.is_fully_signed(&dir(), &info, 1));
        assert!(!trusted.is_fully_signed(&dir(), &info, 2));
        assert!(!TrustedKeys::default().is_fully_signed(&dir(), &info, 1));
        info.signatures.clear();
        assert!(!trusted.is_fully_signed(&dir(), &info, 1));
        // A content address needs no signature, but it must be true.
        let address = ContentAddress::parse(&format!("text:{}", Sha256::of(b"hello")));
        let mut text = PathInfo::new(
            name("vqpn17r03lqabwk0wksgpbgy620zwfd4-t"),
            Sha256::of(b""),
            1,
        );
        text.ca = address.clone();
        assert!(trusted.is_fully_signed(&dir(), &text, 9));
        info.ca = address;
        assert!(!trusted.is_fully_signed(&dir(), &info, 1));
    }

    #[test]
    fn no_secret_is_printed() {
        let key = SecretKey::parse(SECRET).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey { name: \"test-1\", .. }");
    }

    #[test]
    fn other_texts_are_no_keys() {
        let wrong = |text: &str| SecretKey::parse(text).map(|_| ()).unwrap_err();
        assert_eq!(wrong("VlnklG"), KeyError::NoName);
        assert_eq!(wrong(":VlnklG"), KeyError::NoName);
        assert_eq!(wrong("a b:VlnklG"), KeyError::NoName);
        assert_eq!(wrong(PUBLIC), KeyError::BadDigits(64));
        assert_eq!(wrong(&SECRET.replace('V', "*")), KeyError::BadDigits(64));
        // The second half is not the public key of the first.
        assert_eq!(wrong(&SECRET.replace("VlnklG", "AlnklG")), KeyError::NoKey);
        assert_eq!(PublicKey::parse(SECRET), Err(KeyError::BadDigits(32)));
    }
}
