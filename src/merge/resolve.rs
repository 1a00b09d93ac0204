// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one name of a merged directory is, given what each layer has under it.
//!
//! Invariant: agrees with kernel OverlayFS except that a whiteout with nothing to hide is shown
//! as the device it is.

/// What one layer has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nothing.
    Absent,
    /// The character device 0/0.
    Whiteout,
    /// Anything that is not a directory.
    Leaf,
    /// A directory.
    Directory {
        /// Whether it hides a lower directory of the same name.
        opaque: bool,
    },
}

/// What the merged view has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Nothing.
    Absent,
    /// The upper's object alone.
    Upper,
    /// The lower's object alone.
    Lower,
    /// Both directories, merged.
    Merged,
}

/// Resolves a name from what `upper` and `lower` have under it.
pub fn resolve(upper: Probe, lower: Probe) -> Resolution {
    match (upper, lower) {
        (Probe::Absent, Probe::Absent | Probe::Whiteout) => Resolution::Absent,
        (Probe::Absent, Probe::Leaf | Probe::Directory { .. }) => Resolution::Lower,
        (Probe::Whiteout, Probe::Leaf | Probe::Directory { .. }) => Resolution::Absent,
        (Probe::Whiteout, Probe::Absent | Probe::Whiteout) => Resolution::Upper,
        (Probe::Leaf, _) => Resolution::Upper,
        (Probe::Directory { opaque: false }, Probe::Directory { .. }) => Resolution::Merged,
        (Probe::Directory { .. }, _) => Resolution::Upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Probe = Probe::Directory { opaque: false };
    const OPAQUE: Probe = Probe::Directory { opaque: true };

    /// One row per kind of upper, one column per kind of lower: absent, whiteout, leaf, directory.
    #[test]
    fn every_cell_of_the_table() {
        use Resolution::{Absent, Lower, Merged, Upper};
        let columns = [Probe::Absent, Probe::Whiteout, Probe::Leaf, DIR];
        let table = [
            (Probe::Absent, [Absent, Absent, Lower, Lower]),
            (Probe::Whiteout, [Upper, Upper, Absent, Absent]),
            (Probe::Leaf, [Upper, Upper, Upper, Upper]),
            (DIR, [Upper, Upper, Upper, Merged]),
            (OPAQUE, [Upper, Upper, Upper, Upper]),
        ];
        for (upper, row) in table {
            for (lower, expected) in columns.into_iter().zip(row) {
                assert_eq!(resolve(upper, lower), expected, "{upper:?} over {lower:?}");
            }
        }
    }

    /// The lower's own opaque mark means nothing: there is nothing underneath it.
    #[test]
    fn an_opaque_lower_merges_like_any_other() {
        assert_eq!(resolve(DIR, OPAQUE), Resolution::Merged);
        assert_eq!(resolve(Probe::Absent, OPAQUE), Resolution::Lower);
    }
}
