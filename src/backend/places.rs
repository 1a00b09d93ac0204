// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory to mount on in a namespace of one's own.
//!
//! Invariant: what it hides there nobody needs: `/proc` and `/dev` are never among them.

use std::path::Path;

/// Directories of which every system has some.
pub(super) const USUAL: [&str; 8] = [
    "/mnt", "/media", "/srv", "/opt", "/run", "/tmp", "/var", "/usr",
];

/// Returns one that neither covers one of `paths` nor lies in one.
pub(super) fn apart(paths: &[&Path]) -> Option<&'static Path> {
    let is_apart = |place: &&Path| {
        !paths
            .iter()
            .any(|path| path.starts_with(place) || place.starts_with(path))
    };
    let places = USUAL.into_iter().map(Path::new).filter(is_apart);
    let mut there =
        places.filter(|place| place.symlink_metadata().is_ok_and(|found| found.is_dir()));
    there.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_neither_covers_a_path_nor_lies_in_it() {
        let paths: Vec<&Path> = USUAL[..7].iter().map(Path::new).collect();
        assert_eq!(apart(&paths), Some(Path::new("/usr")));
        let inside = Path::new("/usr/share");
        let all: Vec<&Path> = paths.iter().copied().chain([inside]).collect();
        assert_eq!(apart(&all), None);
        assert_eq!(apart(&[Path::new("/")]), None);
        assert!(!USUAL.contains(&"/proc"));
    }
}
