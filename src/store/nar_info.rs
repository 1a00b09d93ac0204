// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a binary cache tells of one object: its narinfo.
//!
//! Decides what is well-formed; where the archive is, and whether it is true, is for who reads it.
//! Invariant: the place of the archive is a path below the cache, however it was spelled.

use super::dir::StoreDir;
use super::hash::{Hash, Sha256};
use super::name::ObjectName;
use std::path::{Component, Path, PathBuf};

/// What a narinfo tells of the archive of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The object.
    pub name: ObjectName,
    /// The file with its archive, below the cache.
    pub file: PathBuf,
    /// How that file is compressed: `none`, `xz`...
    pub compression: String,
    /// The digest of the archive.
    pub nar_hash: Sha256,
    /// The size of the archive in bytes.
    pub nar_size: u64,
}

impl NarInfo {
    /// Parses the text of a narinfo of a cache whose objects are in `dir`.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn parse(text: &str, dir: &StoreDir) -> Result<NarInfo, String> {
        let value = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
        };
        let needed = |key: &str| value(key).ok_or_else(|| format!("it has no {key}"));
        let odd = |key: &str, text: &str| format!("{key} '{}' makes no sense", text.escape_debug());
        let path = needed("StorePath")?;
        let name = match dir.parse(Path::new(path)) {
            Some(Ok(name)) => name,
            _ => return Err(odd("StorePath", path)),
        };
        let url = needed("URL")?;
        let file = PathBuf::from(url);
        let below = |part: Component<'_>| matches!(part, Component::Normal(_));
        if url.is_empty() || !file.components().all(below) {
            return Err(odd("URL", url));
        }
        let hash = needed("NarHash")?;
        let nar_hash = Hash::parse(hash).and_then(|hash| Sha256::try_from(&hash).ok());
        let size = needed("NarSize")?;
        Ok(NarInfo {
            name,
            file,
            // What Nix takes it for where it is not told.
            compression: match value("Compression") {
                None | Some("") => "bzip2".to_owned(),
                Some(word) => word.to_owned(),
            },
            nar_hash: nar_hash.ok_or_else(|| odd("NarHash", hash))?,
            nar_size: size.parse().map_err(|_| odd("NarSize", size))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/00000000000000000000000000000000-a";

    fn parse(text: &str) -> Result<NarInfo, String> {
        NarInfo::parse(text, &StoreDir::new(Path::new("/nix/store")).unwrap())
    }

    fn text(url: &str) -> String {
        let hash = Sha256::of(b"x").base32();
        format!(
            "StorePath: {PATH}\nURL: {url}\nNarHash: sha256:{hash}\nNarSize: 120\nReferences: \n"
        )
    }

    #[test]
    fn a_good_one_is_read() {
        let info = parse(&text("nar/x.nar.xz")).unwrap();
        assert_eq!(info.file, Path::new("nar/x.nar.xz"));
        assert_eq!((info.compression.as_str(), info.nar_size), ("bzip2", 120));
        assert_eq!(info.nar_hash, Sha256::of(b"x"));
        let told = format!("{}Compression: none\n", text("x"));
        assert_eq!(parse(&told).unwrap().compression, "none");
    }

    #[test]
    fn an_archive_outside_of_the_cache_is_refused() {
        for url in ["", "/etc/passwd", "../x", "nar/../../x", "./x"] {
            assert!(parse(&text(url)).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for key in ["StorePath", "URL", "NarHash", "NarSize"] {
            let whole = text("x");
            let without: String = whole
                .lines()
                .filter(|line| !line.starts_with(key))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(parse(&without), Err(format!("it has no {key}")));
            let broken = whole.replace(&format!("{key}: "), &format!("{key}: /a"));
            assert!(parse(&broken).unwrap_err().contains(key), "{key}");
        }
    }
}
