// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths as Nix spells them: absolute and canonical by their text alone, symlinks not followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Returns `path` without `.`, `..`, doubled and trailing slashes; `None` if it is not absolute
/// or holds a NUL byte (no file has such a name).
pub fn canonical(path: &[u8]) -> Option<PathBuf> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut bytes = Vec::with_capacity(path.len());
    for part in &parts {
        bytes.push(b'/');
        bytes.extend_from_slice(part);
    }
    if bytes.is_empty() {
        bytes.push(b'/');
    }
    Some(PathBuf::from(OsStr::from_bytes(&bytes)))
}

/// Returns the canonical form of `path`, taken relative to `cwd` if it is not absolute; `None`
/// if `cwd` is not absolute either, or on a NUL byte.
pub fn absolute(path: &[u8], cwd: &Path) -> Option<PathBuf> {
    if path.first() == Some(&b'/') {
        return canonical(path);
    }
    let mut joined = cwd.as_os_str().as_bytes().to_vec();
    joined.push(b'/');
    joined.extend_from_slice(path);
    canonical(&joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonicalises_by_text() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"/", Some("/")),
            (b"//", Some("/")),
            (b"/..", Some("/")),
            (b"/x//ub/./", Some("/x/ub")),
            (b"/a/b/../../../c", Some("/c")),
            (b"/a...b/..c", Some("/a...b/..c")),
            (b"", None),
            (b"a/b", None),
            (b"/a\0b", None),
        ];
        for (input, expected) in table {
            assert_eq!(canonical(input), expected.map(PathBuf::from), "{input:?}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_working_directory() {
        let cwd = Path::new("/home/u");
        assert_eq!(absolute(b"./s", cwd), Some(PathBuf::from("/home/u/s")));
        assert_eq!(absolute(b"../s/", cwd), Some(PathBuf::from("/home/s")));
        assert_eq!(absolute(b"/s", cwd), Some(PathBuf::from("/s")));
        assert_eq!(absolute(b"s", Path::new("rel")), None);
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(parts in prop::collection::vec("[./a\\\\]{0,4}", 0..8)) {
            let text = format!("/{}", parts.join("/"));
            let once = canonical(text.as_bytes()).expect("the text starts with a slash");
            prop_assert_eq!(canonical(once.as_os_str().as_bytes()), Some(once.clone()));
        }
    }
}
