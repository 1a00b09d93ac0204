// SPDX-License-Identifier: MIT OR Apache-2.0
//! Path infos as JSON, as `nix path-info --json` prints them.
//!
//! Invariant: keys are in order and what is not known is `null`, so that a text for text comparison
//! with Nix holds.

use super::content_address::ContentAddress;
use super::dir::StoreDir;
use super::name::ObjectName;
use super::path_info::PathInfo;
use serde_json::{Map, Value, json};

/// The shape of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// That of Nix up to 2.33, which carries no version.
    Unversioned,
    /// `--json-format 1`: the same, with version and store directory.
    V1,
    /// `--json-format 2`: base names for paths, and content addresses in parts.
    V2,
}

/// One object of a document.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The object.
    pub name: &'a ObjectName,
    /// What is known of it; `None` if it is not valid.
    pub info: Option<&'a PathInfo>,
    /// The size of its closure, if that was asked for.
    pub closure_size: Option<u64>,
}

impl Format {
    /// Returns the number of the version.
    pub fn version(self) -> Option<u64> {
        match self {
            Format::Unversioned => None,
            Format::V1 => Some(1),
            Format::V2 => Some(2),
        }
    }

    /// Returns the spelling of a path.
    fn path(self, dir: &StoreDir, name: &ObjectName) -> Value {
        match self {
            Format::Unversioned | Format::V1 => {
                Value::from(dir.store_path(name).display().to_string())
            }
            Format::V2 => Value::from(name.as_str()),
        }
    }

    fn address(self, address: &ContentAddress) -> Value {
        match self {
            Format::Unversioned | Format::V1 => Value::from(address.to_string()),
            Format::V2 => json!({
                "hash": address.hash.sri(),
                "method": address.method.word(),
            }),
        }
    }
}

/// Returns the JSON of all `entries` together.
pub fn document<'a>(
    dir: &StoreDir,
    entries: impl IntoIterator<Item = Entry<'a>>,
    format: Format,
) -> Value {
    let mut infos = Map::new();
    for entry in entries {
        let key = match format.path(dir, entry.name) {
            Value::String(key) => key,
            other => other.to_string(),
        };
        let value = entry
            .info
            .map(|info| path_info(dir, info, entry.closure_size, format));
        infos.insert(key, value.unwrap_or(Value::Null));
    }
    match format {
        Format::Unversioned | Format::V1 => Value::Object(infos),
        Format::V2 => json!({
            "info": infos,
            "storeDir": dir.as_path().display().to_string(),
            "version": format.version(),
        }),
    }
}

/// Returns the JSON of one path info.
pub fn path_info(
    dir: &StoreDir,
    info: &PathInfo,
    closure_size: Option<u64>,
    format: Format,
) -> Value {
    let path = |name: &ObjectName| format.path(dir, name);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put(
        "ca",
        info.ca
            .as_ref()
            .map_or(Value::Null, |ca| format.address(ca)),
    );
    if let Some(size) = closure_size {
        put("closureSize", size.into());
    }
    put("deriver", info.deriver.as_ref().map_or(Value::Null, path));
    put("narHash", info.nar_hash.sri().into());
    put("narSize", info.nar_size.into());
    put("references", info.references.iter().map(path).collect());
    put("registrationTime", info.registration_time.into());
    put("signatures", info.signatures.iter().cloned().collect());
    if let Some(version) = format.version() {
        put("storeDir", dir.as_path().display().to_string().into());
        put("version", version.into());
    }
    put("ultimate", info.ultimate.into());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::super::hash::Sha256;
    use super::*;
    use std::path::Path;

    /// What Nix 2.26 prints, without a version; Nix 2.34 adds it.
    const UNVERSIONED: &str = r#"{"/nix/store/00000000000000000000000000000002-b":{"ca":null,"closureSize":320,"deriver":"/nix/store/wz50fnv3dk544vdhwdr18vs3q4qql16r-top.drv","narHash":"sha256-JrMx0DdG78UIVfdyU+6NByqoAbT7m1P06gripHDPjdE=","narSize":160,"references":["/nix/store/00000000000000000000000000000004-d"],"registrationTime":1795464701,"signatures":[],"ultimate":false},"/nix/store/00000000000000000000000000000008-none":null,"/nix/store/8njwzhrh1va7wx6irk7n49dd5dpw5c1q-src.txt":{"ca":"fixed:r:sha1:03rh5svjrzizyskdchmy21mhld4k3asg","closureSize":120,"deriver":null,"narHash":"sha256-SwPvukQYB9mSKHO/IecgrAdphr8p6+4q4CdP8SmICLo=","narSize":120,"references":[],"registrationTime":1795464701,"signatures":["a:b","c:d"],"ultimate":true}}"#;
    const V2: &str = r#"{"info":{"00000000000000000000000000000002-b":{"ca":null,"deriver":"wz50fnv3dk544vdhwdr18vs3q4qql16r-top.drv","narHash":"sha256-JrMx0DdG78UIVfdyU+6NByqoAbT7m1P06gripHDPjdE=","narSize":160,"references":["00000000000000000000000000000004-d"],"registrationTime":1795464701,"signatures":[],"storeDir":"/nix/store","ultimate":false,"version":2},"00000000000000000000000000000008-none":null,"8njwzhrh1va7wx6irk7n49dd5dpw5c1q-src.txt":{"ca":{"hash":"sha1-T6sxSaOwBuErZG1q/+PPcusC8wA=","method":"nar"},"deriver":null,"narHash":"sha256-SwPvukQYB9mSKHO/IecgrAdphr8p6+4q4CdP8SmICLo=","narSize":120,"references":[],"registrationTime":1795464701,"signatures":["a:b","c:d"],"storeDir":"/nix/store","ultimate":true,"version":2}},"storeDir":"/nix/store","version":2}"#;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text.as_bytes()).unwrap()
    }

    fn print(format: Format, sizes: [Option<u64>; 2]) -> String {
        let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
        let digest = "26b331d03746efc50855f77253ee8d072aa801b4fb9b53f4ea0ae2a470cf8dd1";
        let own = name("00000000000000000000000000000002-b");
        let mut b = PathInfo::new(own, Sha256::from_hex(digest).unwrap(), 160);
        b.references = [name("00000000000000000000000000000004-d")].into();
        b.deriver = Some(name("wz50fnv3dk544vdhwdr18vs3q4qql16r-top.drv"));
        b.registration_time = 1_795_464_701;
        let digest = "4b03efba441807d9922873bf21e720ac076986bf29ebee2ae0274ff1298808ba";
        let own = name("8njwzhrh1va7wx6irk7n49dd5dpw5c1q-src.txt");
        let mut src = PathInfo::new(own, Sha256::from_hex(digest).unwrap(), 120);
        src.ca = ContentAddress::parse("fixed:r:sha1:03rh5svjrzizyskdchmy21mhld4k3asg");
        src.ultimate = true;
        src.signatures = ["c:d".to_owned(), "a:b".to_owned()].into();
        src.registration_time = 1_795_464_701;
        let none = name("00000000000000000000000000000008-none");
        let entry = |name, info, closure_size| Entry {
            name,
            info,
            closure_size,
        };
        let entries = [
            entry(&src.name, Some(&src), sizes[1]),
            entry(&none, None, None),
            entry(&b.name, Some(&b), sizes[0]),
        ];
        document(&dir, entries, format).to_string()
    }

    #[test]
    fn each_format_is_that_of_nix() {
        let sizes = [Some(320), Some(120)];
        assert_eq!(print(Format::Unversioned, sizes), UNVERSIONED);
        let v1 = UNVERSIONED
            .replace(
                "],\"ultimate\"",
                "],\"storeDir\":\"/nix/store\",\"ultimate\"",
            )
            .replace("false}", "false,\"version\":1}")
            .replace("true}", "true,\"version\":1}");
        assert_eq!(print(Format::V1, sizes), v1);
        assert_eq!(print(Format::V2, [None, None]), V2);
    }
}
