// SPDX-License-Identifier: MIT OR Apache-2.0
//! Store paths that follow from contents: what a content address, or a derivation, makes of a name.
//!
//! Decides the hash part alone; what the hash of a content is, `nar` computes. Invariant: the same
//! content, references, name and store directory always make the same object name.

use super::base32;
use super::content_address::{ContentAddress, Method};
use super::dir::StoreDir;
use super::hash::{Algorithm, Sha256};
use super::name::{NameError, ObjectName};
use super::path_info::PathInfo;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Size of the digest in a store path, in bytes.
const HASH_PART_SIZE: usize = 20;

/// The output whose path has the derivation's own name.
const MAIN_OUTPUT: &str = "out";

/// Why no store path can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakeError {
    /// The name is none.
    Name(NameError),
    /// An object with this kind of content address cannot have such references.
    References,
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MakeError::Name(why) => fmt::Display::fmt(why, f),
            MakeError::References => {
                f.write_str("an object addressed in this way cannot have such references")
            }
        }
    }
}

impl std::error::Error for MakeError {}

impl From<NameError> for MakeError {
    fn from(why: NameError) -> MakeError {
        MakeError::Name(why)
    }
}

/// What an object refers to, told before its own name is known.
#[derive(Debug, Clone, Copy)]
pub struct References<'a> {
    /// The other objects.
    pub others: &'a BTreeSet<ObjectName>,
    /// Whether it refers to itself.
    pub itself: bool,
}

impl References<'static> {
    /// Returns those of an object that refers to nothing.
    pub fn none() -> References<'static> {
        static NONE: BTreeSet<ObjectName> = BTreeSet::new();
        References {
            others: &NONE,
            itself: false,
        }
    }
}

/// Folds `digest` to `size` bytes, which must not be 0.
pub fn compress(digest: &[u8], size: usize) -> Vec<u8> {
    let mut folded = vec![0; size];
    for (at, byte) in digest.iter().enumerate() {
        folded[at % size] ^= byte;
    }
    folded
}

/// Returns the object called `name` with the content address `address`.
pub fn for_content(
    dir: &StoreDir,
    address: &ContentAddress,
    name: &str,
    references: References<'_>,
) -> Result<ObjectName, MakeError> {
    let digest = Sha256::try_from(&address.hash);
    match (address.method, digest) {
        (Method::Nar, Ok(inner)) => Ok(make(dir, &typed("source", dir, references), &inner, name)?),
        (Method::Text, Ok(inner)) if !references.itself => {
            Ok(make(dir, &typed("text", dir, references), &inner, name)?)
        }
        (Method::Text, _) => Err(MakeError::References),
        _ if references.itself || !references.others.is_empty() => Err(MakeError::References),
        _ => {
            let described = format!(
                "fixed:out:{}{}:{}:",
                fixed_prefix(address.method),
                address.hash.algorithm().word(),
                address.hash.hex()
            );
            let inner = Sha256::of(described.as_bytes());
            Ok(make(dir, b"output:out", &inner, name)?)
        }
    }
}

/// Returns the output `output` of a derivation that fixes its content by `address`; `name` is that
/// of the derivation, without `.drv`.
pub fn fixed_output(
    dir: &StoreDir,
    address: &ContentAddress,
    name: &str,
    output: &str,
) -> Result<ObjectName, MakeError> {
    for_content(dir, address, &output_name(name, output), References::none())
}

/// Returns the output `output` of a derivation addressed by its inputs, of which `digest` is the
/// hash; `name` is that of the derivation, without `.drv`.
pub fn input_addressed_output(
    dir: &StoreDir,
    digest: &Sha256,
    name: &str,
    output: &str,
) -> Result<ObjectName, MakeError> {
    let kind = format!("output:{output}");
    Ok(make(
        dir,
        kind.as_bytes(),
        digest,
        &output_name(name, output),
    )?)
}

/// Whether the content address of `info` leads to the name that it has; `None` if it has none.
pub fn reproduces(dir: &StoreDir, info: &PathInfo) -> Option<bool> {
    let address = info.ca.as_ref()?;
    let others = info.others().cloned().collect();
    let references = References {
        others: &others,
        itself: info.references.contains(&info.name),
    };
    let made = for_content(dir, address, info.name.name_part(), references);
    Some(made.is_ok_and(|made| made == info.name))
}

/// The name part of an output's path.
fn output_name(name: &str, output: &str) -> String {
    if output == MAIN_OUTPUT {
        return name.to_owned();
    }
    format!("{name}-{output}")
}

/// What stands before the algorithm where a fixed output is described.
fn fixed_prefix(method: Method) -> &'static str {
    match method {
        Method::Nar => "r:",
        Method::Git => "git:",
        Method::Flat | Method::Text => "",
    }
}

/// The kind of a path whose references count: they are part of it, sorted.
fn typed(kind: &str, dir: &StoreDir, references: References<'_>) -> Vec<u8> {
    let mut typed = kind.as_bytes().to_vec();
    for other in references.others {
        typed.push(b':');
        typed.extend_from_slice(dir.store_path(other).as_os_str().as_bytes());
    }
    if references.itself {
        typed.extend_from_slice(b":self");
    }
    typed
}

fn make(dir: &StoreDir, kind: &[u8], inner: &Sha256, name: &str) -> Result<ObjectName, NameError> {
    let described = [
        kind,
        format!(":{}:{}:", Algorithm::Sha256.word(), inner.hex()).as_bytes(),
        dir.as_path().as_os_str().as_bytes(),
        b":",
        name.as_bytes(),
    ]
    .concat();
    let digest = compress(&Sha256::of(&described).0, HASH_PART_SIZE);
    ObjectName::parse(format!("{}-{name}", base32::encode(&digest)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::hash::Hash;
    use super::*;
    use std::path::Path;

    fn dir() -> StoreDir {
        StoreDir::new(Path::new("/nix/store")).unwrap()
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text.as_bytes()).unwrap()
    }

    fn made(address: &str, called: &str) -> String {
        let address = ContentAddress::parse(address).unwrap();
        for_content(&dir(), &address, called, References::none())
            .unwrap()
            .to_string()
    }

    /// Every object here was made by Nix.
    #[test]
    fn paths_are_those_of_nix() {
        let flat = |algorithm| format!("fixed:{}", Hash::of(algorithm, b"hello"));
        let text = format!("text:{}", Sha256::of(b"hello"));
        let zeros_and_one = "0000000000000000000000000000000000000001";
        let table = [
            (
                "fixed:r:sha256:1n5r2gdj74qx6pyy33zsb66cd920fy5nbr6zbf03hxb698k19a0m".to_owned(),
                "bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d",
            ),
            (
                flat(Algorithm::Sha256),
                "4c6wsvi6cnq8h7ibg70pv68bi43y92xs-f",
            ),
            (flat(Algorithm::Sha1), "pnv0gwd3ivq66yd5bkpsh0r8925bq8zy-f"),
            (text, "vqpn17r03lqabwk0wksgpbgy620zwfd4-t"),
            (
                format!("fixed:sha1:{zeros_and_one}"),
                "6l72ixw9q0ryx1i9k8m6p8c4321ljzfm-flat",
            ),
            (
                format!("fixed:r:sha1:{zeros_and_one}"),
                "mzi07pk0jwzcg713fpg8k38hccb9hf1b-recsha1",
            ),
            (
                format!("fixed:r:sha256:{}", "1".repeat(64)),
                "xsmxwsrbmj165z6vhw67idnsr58i1d03-fixed",
            ),
            (
                "fixed:r:sha1:03rh5svjrzizyskdchmy21mhld4k3asg".to_owned(),
                "8njwzhrh1va7wx6irk7n49dd5dpw5c1q-src.txt",
            ),
            (
                "fixed:r:md5:05l1hdybyby1clhb01cskfy8qw".to_owned(),
                "n9gawn2l8ap9b32n674ikp45vyiwzjap-src.txt",
            ),
            (
                "fixed:sha256:08pmazdqvi2dhkm6qgb4yi9miis6wz55ghf7zda05gb3kd7h7fxq".to_owned(),
                "r24bwg215j9z2b0xs7zrkf4mbz2hf11i-src.txt",
            ),
        ];
        for (address, expected) in table {
            assert_eq!(made(&address, name(expected).name_part()), expected);
        }
    }

    #[test]
    fn references_and_self_are_part_of_the_path() {
        // The derivation `top` of the derivations' tests, as Nix registered it.
        let references = [
            "lssfpwzbaf7zswcn0m8c13pjsxazzfgz-flat.drv",
            "lyda73m5mgfljyg8zsxllycp474kd5jj-recsha1.drv",
            "wdiqdhbjmrxw3fg5cnyqif6xaq2w4inw-fixed.drv",
            "z9pgc9p57v82czp27vj96ziqn679n8zb-a.drv",
        ];
        let top = name("wz50fnv3dk544vdhwdr18vs3q4qql16r-top.drv");
        let mut info = PathInfo::new(top.clone(), Sha256::of(b""), 1);
        info.references = references.map(name).into();
        info.ca = ContentAddress::parse(
            "text:sha256:1s32v6lg9ifhx7dd52cg0iyhcnqn0jmjqr8hlxcv5rh5790iqqh4",
        );
        assert_eq!(reproduces(&dir(), &info), Some(true));
        info.references.pop_first();
        assert_eq!(reproduces(&dir(), &info), Some(false));
        info.references.insert(top);
        assert_eq!(reproduces(&dir(), &info), Some(false));
        info.ca = None;
        assert_eq!(reproduces(&dir(), &info), None);

        // An object that refers to itself and to another one.
        let address = ContentAddress::parse(&format!("fixed:r:{}", Sha256::of(b"x"))).unwrap();
        let others = [name("bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d")].into();
        let of = |itself| {
            let references = References {
                others: &others,
                itself,
            };
            for_content(&dir(), &address, "x", references).unwrap()
        };
        let mut info = PathInfo::new(of(true), Sha256::of(b""), 1);
        info.references = others.clone();
        info.references.insert(of(true));
        info.ca = Some(address.clone());
        assert_ne!(of(true), of(false));
        assert_eq!(reproduces(&dir(), &info), Some(true));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let others = [name("bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d")].into();
        let none = BTreeSet::new();
        let make = |address: &str, others, itself| {
            let address = ContentAddress::parse(&format!("{address}{}", Sha256::of(b""))).unwrap();
            for_content(&dir(), &address, "x", References { others, itself })
        };
        assert!(make("text:", &others, false).is_ok());
        assert_eq!(make("text:", &none, true), Err(MakeError::References));
        assert_eq!(make("fixed:", &others, false), Err(MakeError::References));
        assert_eq!(make("fixed:git:", &none, true), Err(MakeError::References));
        let address = ContentAddress::parse(&format!("fixed:{}", Sha256::of(b""))).unwrap();
        assert_eq!(
            for_content(&dir(), &address, "a/b", References::none()),
            Err(MakeError::Name(NameError::BadName(b'/')))
        );
    }

    #[test]
    fn outputs_are_called_after_their_derivation() {
        let address = ContentAddress::parse(&format!("fixed:r:sha256:{}", "1".repeat(64))).unwrap();
        let main = fixed_output(&dir(), &address, "fixed", "out").unwrap();
        assert_eq!(main.as_str(), "xsmxwsrbmj165z6vhw67idnsr58i1d03-fixed");
        let other = fixed_output(&dir(), &address, "fixed", "dev").unwrap();
        assert_eq!(other.name_part(), "fixed-dev");
        let digest = Sha256::of(b"inputs");
        let main = input_addressed_output(&dir(), &digest, "a", "out").unwrap();
        let other = input_addressed_output(&dir(), &digest, "a", "dev").unwrap();
        assert_eq!((main.name_part(), other.name_part()), ("a", "a-dev"));
        assert_ne!(main.hash_part(), other.hash_part());
    }

    #[test]
    fn the_store_directory_is_part_of_the_path() {
        let address = ContentAddress::parse(&format!("text:{}", Sha256::of(b"hello"))).unwrap();
        let made = |dir| {
            let dir = StoreDir::new(Path::new(dir)).unwrap();
            for_content(&dir, &address, "t", References::none()).unwrap()
        };
        assert_ne!(made("/gnu/store"), made("/nix/store"));
    }

    #[test]
    fn folding_keeps_every_byte() {
        assert_eq!(compress(&[1, 2, 5, 8, 16], 2), [20, 10]);
        assert_eq!(compress(&[1, 2], 3), [1, 2, 0]);
    }
}
