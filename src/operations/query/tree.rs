// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closures as a tree, as `nix-store -q --tree` prints them.
//!
//! Invariant: what is below an object is told once; where it comes again, ` [...]` says so.

use super::Query;
use crate::error::Result;
use crate::store::ObjectName;
use std::collections::BTreeSet;

const BRANCH: &str = "\u{251c}\u{2500}\u{2500}\u{2500}";
const LAST_BRANCH: &str = "\u{2514}\u{2500}\u{2500}\u{2500}";
const BESIDE: &str = "\u{2502}   ";
const NOTHING_BESIDE: &str = "    ";

/// One line that is still to be printed.
struct Line {
    name: ObjectName,
    /// What stands before its name.
    before: String,
    /// What stands before the branches of what is below it.
    below: String,
}

impl Query<'_> {
    /// Returns the trees of the closures of `starts`.
    pub fn tree(&mut self, starts: &[ObjectName]) -> Result<String> {
        let mut text = String::new();
        let mut told = BTreeSet::new();
        let mut waiting: Vec<Line> = starts
            .iter()
            .rev()
            .map(|name| Line {
                name: name.clone(),
                before: String::new(),
                below: String::new(),
            })
            .collect();
        while let Some(line) = waiting.pop() {
            text.push_str(&line.before);
            text.push_str(&self.shown(&line.name));
            if !told.insert(line.name.clone()) {
                text.push_str(" [...]\n");
                continue;
            }
            text.push('\n');
            let references = self.info(&line.name)?.references.clone();
            for (at, name) in self.sorted(&references)?.into_iter().rev().enumerate() {
                // The first of these is printed last.
                let (branch, beside) = match at {
                    0 => (LAST_BRANCH, NOTHING_BESIDE),
                    _ => (BRANCH, BESIDE),
                };
                waiting.push(Line {
                    name,
                    before: format!("{}{branch}", line.below),
                    below: format!("{}{beside}", line.below),
                });
            }
        }
        Ok(text)
    }
}
