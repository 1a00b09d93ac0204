// SPDX-License-Identifier: MIT OR Apache-2.0
//! The documents say what the rows say.

use crate::common::check::Must;
use crate::divergence::ROWS;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn document(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(name),
    )
    .must()
}

/// docs/rig.md has one line per row, in order, and no other; the headings are in semantics.md.
#[test]
fn documents_and_rows_agree() {
    let (rig, semantics) = (document("rig.md"), document("semantics.md"));
    let (_, rig) = rig
        .split_once("## Allowed differences")
        .expect("the heading");
    let lines: Vec<_> = rig.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<_> = ROWS
        .iter()
        .map(|row| {
            format!(
                "| `{}` | {} | {} | {} | {} |",
                row.name, row.here, row.kernel, row.why, row.heading
            )
        })
        .collect();
    assert_eq!(lines, rows);
    for row in &ROWS {
        let heading = format!("## {}", row.heading);
        assert!(semantics.lines().any(|line| line == heading), "{heading}");
    }
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
}
