// SPDX-License-Identifier: MIT OR Apache-2.0
//! Content addresses: how the content of a store object fixes its name.
//!
//! Decides the spelling (`text:sha256:...`, `fixed:r:sha256:...`); which store path follows from one
//! is `make`'s. Invariant: text is always SHA-256.

use super::hash::{Algorithm, Hash};
use std::fmt;

/// What of an object is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The content of one file that is text and may have references.
    Text,
    /// The content of one file.
    Flat,
    /// The NAR of the whole object.
    Nar,
    /// The git object (blob or tree) of the whole object.
    Git,
}

/// A method and its hash, as in the column `ca`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    /// What is hashed.
    pub method: Method,
    /// Its hash.
    pub hash: Hash,
}

impl Method {
    /// Returns what stands before the algorithm.
    pub fn prefix(self) -> &'static str {
        match self {
            Method::Text => "text:",
            Method::Flat => "fixed:",
            Method::Nar => "fixed:r:",
            Method::Git => "fixed:git:",
        }
    }

    /// Returns the word that Nix's JSON has for it.
    pub fn word(self) -> &'static str {
        match self {
            Method::Text => "text",
            Method::Flat => "flat",
            Method::Nar => "nar",
            Method::Git => "git",
        }
    }
}

impl ContentAddress {
    /// Parses the text form; the hash may be in any base.
    pub fn parse(text: &str) -> Option<ContentAddress> {
        // The longer prefixes first: all but text begin alike.
        let methods = [Method::Text, Method::Nar, Method::Git, Method::Flat];
        let (method, hash) = methods
            .into_iter()
            .find_map(|method| Some((method, text.strip_prefix(method.prefix())?)))?;
        let (word, digits) = hash.split_once(':')?;
        let hash = Hash::parse_digits(Algorithm::parse(word)?, digits)?;
        let possible = method != Method::Text || hash.algorithm() == Algorithm::Sha256;
        possible.then_some(ContentAddress { method, hash })
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.method.prefix(), self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        for algorithm in Algorithm::ALL {
            for method in [Method::Text, Method::Flat, Method::Nar, Method::Git] {
                let address = ContentAddress {
                    method,
                    hash: Hash::of(algorithm, b"x"),
                };
                let possible = method != Method::Text || algorithm == Algorithm::Sha256;
                let parsed = ContentAddress::parse(&address.to_string());
                assert_eq!(parsed, possible.then_some(address));
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "text",
            "fixed:r:",
            "fixed:sha256:00",
            "nar:sha256:x",
            "text:sha256-AA==",
        ] {
            assert_eq!(ContentAddress::parse(text), None, "{text}");
        }
    }
}
