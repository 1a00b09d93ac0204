// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closures as a graph in the language of Graphviz, as `nix-store -q --graph` prints them.

use super::Query;
use crate::error::Result;
use crate::store::ObjectName;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The colours of the edges, in turn.
const COLOURS: [&str; 6] = ["black", "red", "green", "blue", "magenta", "burlywood"];

impl Query<'_> {
    /// Returns the graph of the closures of `starts`.
    pub fn graph(&mut self, starts: &BTreeSet<ObjectName>) -> Result<String> {
        let mut text = String::from("digraph G {\n");
        let mut colours = COLOURS.iter().cycle();
        let mut waiting = starts.clone();
        let mut told = BTreeSet::new();
        while let Some(name) = waiting.pop_first() {
            if !told.insert(name.clone()) {
                continue;
            }
            let info = self.info(&name)?;
            put(
                &mut text,
                format_args!(
                    "\"{name}\" [label = \"{}\", shape = box, style = filled, fillcolor = \"#ff0000\"];\n",
                    name.name_part()
                ),
            );
            for (other, colour) in info.others().zip(&mut colours) {
                waiting.insert(other.clone());
                put(
                    &mut text,
                    format_args!("\"{other}\" -> \"{name}\" [color = \"{colour}\"];\n"),
                );
            }
        }
        text.push_str("}\n");
        Ok(text)
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all");
}
