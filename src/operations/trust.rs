// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether objects that come from elsewhere are signed by somebody who is trusted.
//!
//! Invariant: what is checked is what was read, its hash, size and references, not what anybody says of
//! it; and nothing that lacks a signature is registered where the store's `require-sigs` asks for one.

use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::store::signature::{PublicKey, TrustedKeys};
use crate::store::{ObjectName, PathInfo, StoreDir};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Whose signatures count, and those that were told.
#[derive(Debug, Default)]
pub struct Trust {
    required: bool,
    keys: TrustedKeys,
    signatures: BTreeMap<ObjectName, BTreeSet<String>>,
}

impl Trust {
    /// Asks for signatures by `keys`, public keys in Nix's text with blanks between them, if the store
    /// URL says `require-sigs=true`.
    ///
    /// Without the word nothing is asked for: Nix, whose own default is true, does not ask for it either
    /// where a stream is imported.
    pub fn new(layout: &Layout, keys: &str) -> Result<Trust> {
        let mut trust = Trust {
            required: layout.settings.require_sigs == Some(true),
            ..Trust::default()
        };
        for text in keys.split_whitespace() {
            let key = PublicKey::parse(text)
                .map_err(|why| Error::usage(format!("trusted public key {text}"), why))?;
            trust.keys.insert(key);
        }
        Ok(trust)
    }

    /// Takes the signatures that `json` tells: what `path-info --json` prints, in any of its formats.
    pub fn add_signatures(&mut self, dir: &StoreDir, json: &str) -> Result<()> {
        let malformed = |why: String| {
            Error::new(Kind::Corrupt, "read signatures", why)
                .hint("give what nix path-info --json or overstore path-info --json prints")
        };
        let value: Value = serde_json::from_str(json).map_err(|why| malformed(why.to_string()))?;
        let infos = value.as_object().and_then(|whole| match whole.get("info") {
            Some(info) => info.as_object(),
            None => Some(whole),
        });
        let infos = infos.ok_or_else(|| malformed("it is no object of path infos".to_owned()))?;
        for (path, info) in infos {
            let name = name(dir, path).ok_or_else(|| malformed(format!("{path} is no path")))?;
            if let Some(info) = info.as_object() {
                let told = texts(info)
                    .ok_or_else(|| malformed(format!("signatures of {path} are no texts")))?;
                self.signatures.entry(name).or_default().extend(told);
            }
        }
        Ok(())
    }

    /// Gives `info` the signatures that were told of it.
    ///
    /// # Errors
    /// None of them is good, and one is asked for.
    pub fn sign(&self, dir: &StoreDir, info: &mut PathInfo) -> Result<()> {
        if let Some(told) = self.signatures.get(&info.name) {
            info.signatures.extend(told.iter().cloned());
        }
        if !self.required || self.keys.is_fully_signed(dir, info, 1) {
            return Ok(());
        }
        let what = format!("add {}", dir.store_path(&info.name).display());
        let why = "it lacks a signature by a trusted key, for which require-sigs asks";
        Err(Error::new(Kind::Negative, what, why).hint(
            "give its --signatures and --trusted-public-keys, or take require-sigs out of the URL",
        ))
    }
}

fn name(dir: &StoreDir, path: &str) -> Option<ObjectName> {
    match dir.parse(Path::new(path)) {
        Some(parsed) => parsed.ok(),
        None => ObjectName::parse(path.as_bytes()).ok(),
    }
}

/// The signatures of a path info; `None` if they are no texts.
fn texts(info: &Map<String, Value>) -> Option<Vec<String>> {
    match info.get("signatures") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(told) => {
            let told = told.as_array()?.iter();
            told.map(|text| text.as_str().map(str::to_owned)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_in_any_format() {
        let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
        let name = "11111111111111111111111111111111-a";
        let one = format!(
            "{{\"/nix/store/{name}\": {{\"signatures\": [\"k:x\"]}}, \"/nix/store/2{}\": null}}",
            &name[1..]
        );
        let two =
            format!("{{\"info\": {{\"{name}\": {{\"signatures\": [\"k:x\"]}}}}, \"version\": 2}}");
        for json in [one, two] {
            let mut trust = Trust::default();
            trust.add_signatures(&dir, &json).unwrap();
            let told: Vec<_> = trust.signatures.values().flatten().collect();
            assert_eq!(told, ["k:x"], "{json}");
        }
        for bad in ["", "[]", "7", "{\"x\": {}}", "{\"info\": []}"] {
            let error = Trust::default().add_signatures(&dir, bad).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{bad}");
        }
        let bad = format!("{{\"{name}\": {{\"signatures\": [7]}}}}");
        assert!(Trust::default().add_signatures(&dir, &bad).is_err());
    }
}
