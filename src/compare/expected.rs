// SPDX-License-Identifier: MIT OR Apache-2.0
//! Differences that are deliberate, as data: each with its reason, and where a user reads of it.
//!
//! Invariant: a row only matches what its reason explains; it looks at the layers for that.

use super::layers::Layers;
use super::probe::{ASKED, SUCCEEDS};
use super::report::What;
use super::side::Value;

/// One deliberate difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, the same as the rig's where the rig has it.
    pub name: &'static str,
    /// The heading in docs/semantics.md.
    pub heading: &'static str,
    /// What the driver shows.
    pub here: &'static str,
    /// What the kernel shows.
    pub kernel: &'static str,
    /// Why.
    pub why: &'static str,
}

const DIFFERENCES: &str = "Differences from kernel OverlayFS, on purpose";

/// All of them.
pub const ROWS: [Row; 5] = [
    Row {
        name: "links",
        heading: DIFFERENCES,
        here: "`.links` is the upper's only",
        kernel: "merged",
        why: "Nix's collector removes links with one name there, which would leave whiteouts",
    },
    Row {
        name: "device",
        heading: DIFFERENCES,
        here: "a 0/0 device with nothing to hide is a device",
        kernel: "not there, though a directory of the upper alone lists it",
        why: "there is no name that it could stand for",
    },
    Row {
        name: "redirect-metacopy",
        heading: DIFFERENCES,
        here: "what has a `redirect` or `metacopy` mark is refused when used",
        kernel: "refused or followed, as the kernel is set up",
        why: "a store has no use for them",
    },
    Row {
        name: "overlay-attributes",
        heading: "Extended attributes",
        here: "those of OverlayFS are never shown",
        kernel: "shows those that are not its own (`user.overlay.*` to root)",
        why: "the upper may have been written by either, and the driver reads both",
    },
    Row {
        name: "reserved-names",
        heading: "Repair",
        here: "names that the driver uses for a moment (`.overstore-new-*`) are never shown",
        kernel: "shown",
        why: "they are left by a driver that was killed, and the next one removes them",
    },
];

/// One difference, before it is known whether it is a deliberate one.
pub(super) struct Case<'a> {
    pub(super) layers: &'a Layers,
    pub(super) path: &'a [u8],
    pub(super) what: What,
    pub(super) detail: Option<&'a str>,
    pub(super) fuse: &'a Value,
    pub(super) kernel: &'a Value,
}

/// What each row explains, in the order of [`ROWS`].
const MATCHES: [fn(&Case<'_>) -> bool; ROWS.len()] = [
    |case| case.only_the_kernel_has_it() && case.top() == b".links",
    |case| {
        case.what == What::Presence
            && *case.fuse == Value::is("character device 0/0")
            && *case.kernel == Value::Absent
            && case.layers.nothing_to_hide(case.path)
    },
    |case| case.layers.is_redirected(case.path),
    |case| case.is_of_overlay(),
    |case| case.only_the_kernel_has_it() && case.path.starts_with(b".overstore-new-"),
];

impl Case<'_> {
    /// Returns the number of the row that explains it.
    pub(super) fn row(&self) -> Option<usize> {
        MATCHES.iter().position(|matches| matches(self))
    }

    fn only_the_kernel_has_it(&self) -> bool {
        self.what == What::Presence && *self.fuse == Value::Absent
    }

    fn top(&self) -> &[u8] {
        self.path.split(|&byte| byte == b'/').next().unwrap_or(b"")
    }

    /// Whether the kernel shows an attribute of the overlay, or answers when asked for it.
    fn is_of_overlay(&self) -> bool {
        let name = match (self.what, self.detail) {
            (What::Xattr, Some(name)) if *self.fuse == Value::Absent => name,
            (What::Errno, Some(question)) if *self.kernel == Value::is(SUCCEEDS) => {
                question.strip_prefix(ASKED).unwrap_or("")
            }
            _ => return false,
        };
        name.starts_with("user.overlay.") || name.starts_with("trusted.overlay.")
    }
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn the_docs_have_each_row_and_its_heading() {
        let read = |name: &str| {
            let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("the docs are there")
        };
        let (semantics, compare) = (read("semantics.md"), read("compare.md"));
        for row in &ROWS {
            let heading = format!("\n## {}\n", row.heading);
            assert!(semantics.contains(&heading), "{heading}");
            let line = format!(
                "| `{}` | {} | {} | {} | {} |",
                row.name, row.here, row.kernel, row.why, row.heading
            );
            assert!(compare.contains(&line), "docs/compare.md lacks: {line}");
        }
    }
}
