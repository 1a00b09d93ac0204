// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which object a path is in, as it was written by a user.
//!
//! Decides by the text, and by the symlinks outside of the store: `./result` means what it leads to.

use crate::error::{Error, Result};
use crate::store::path::absolute;
use crate::store::{ObjectName, StoreDir};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// As many symlinks as the kernel follows.
const MOST_SYMLINKS: usize = 40;

/// Where paths may be.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The logical store directory.
    pub dir: &'a StoreDir,
    /// The directory where its objects are seen, if that is another one.
    pub merged: Option<&'a Path>,
    /// What relative paths are relative to.
    pub cwd: &'a Path,
}

impl Place<'_> {
    /// Returns the object that `word` is, or is in; a path below the merged directory stands for the
    /// same one below the store directory.
    pub fn object(&self, word: &Path) -> Result<ObjectName> {
        let mut path = self.absolute(word, self.cwd, word)?;
        for _ in 0..MOST_SYMLINKS {
            if let Some(name) = self.within(&path) {
                return ObjectName::parse(name).map_err(|why| Error::usage(shown(word), why));
            }
            let Some((link, target, rest)) = first_link(&path)? else {
                let why = format!(
                    "it is not in the store directory {}",
                    self.dir.as_path().display()
                );
                return Err(Error::usage(shown(word), why));
            };
            let from = link.parent().unwrap_or(Path::new("/"));
            path = self.absolute(&target.join(rest), from, word)?;
        }
        Err(Error::usage(
            shown(word),
            "it leads through too many symlinks",
        ))
    }

    fn absolute(&self, path: &Path, from: &Path, word: &Path) -> Result<PathBuf> {
        let path = absolute(path.as_os_str().as_bytes(), from);
        path.ok_or_else(|| Error::usage(shown(word), "it is no path"))
    }

    /// The name of the object, if `path` is in the store.
    fn within<'p>(&self, path: &'p Path) -> Option<&'p [u8]> {
        let places = [Some(self.dir.as_path()), self.merged];
        let below = places.into_iter().flatten().find_map(|place| {
            let below = path.strip_prefix(place).ok()?;
            below.components().next()
        });
        match below {
            Some(Component::Normal(name)) => Some(name.as_bytes()),
            _ => None,
        }
    }
}

/// The first part of `path` that is a symlink, where it leads, and what follows it.
fn first_link(path: &Path) -> Result<Option<(PathBuf, PathBuf, PathBuf)>> {
    let mut parts = path.components();
    let mut so_far = PathBuf::new();
    while let Some(part) = parts.next() {
        so_far.push(part);
        match std::fs::read_link(&so_far) {
            Ok(target) => return Ok(Some((so_far, target, parts.as_path().to_owned()))),
            Err(why) => match why.kind() {
                // A file or directory.
                ErrorKind::InvalidInput => {}
                ErrorKind::NotFound | ErrorKind::NotADirectory => return Ok(None),
                _ => return Err(Error::on("read symlink", so_far, why)),
            },
        }
    }
    Ok(None)
}

fn shown(word: &Path) -> String {
    format!("path {}", word.as_os_str().as_bytes().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const NAME: &str = "00000000000000000000000000000005-y";

    #[test]
    fn paths_lead_to_their_object() {
        let home = tempfile::tempdir().unwrap();
        let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
        let merged = home.path().join("m/nix/store");
        let place = Place {
            dir: &dir,
            merged: Some(&merged),
            cwd: home.path(),
        };
        let object = |word: &str| place.object(Path::new(word)).map(|name| name.to_string());
        symlink(format!("/nix/store/{NAME}/bin"), home.path().join("result")).unwrap();
        symlink("round", home.path().join("round")).unwrap();
        for word in [
            format!("/nix/store/{NAME}"),
            format!("/nix/../nix/store//{NAME}/a/b"),
            format!("m/nix/store/{NAME}"),
            merged.join(NAME).join("x").display().to_string(),
            "result".to_owned(),
            "./result/program".to_owned(),
        ] {
            assert_eq!(object(&word).as_deref(), Ok(NAME), "{word}");
        }
        for word in [
            "/nix/store",
            "/nix/store/.links/x",
            "/nix/stores/a",
            "m",
            "nothing",
            "round",
        ] {
            assert!(object(word).is_err(), "{word}");
        }
        let why = object("round").unwrap_err().to_string();
        assert_eq!(why, "path round: it leads through too many symlinks");
    }
}
