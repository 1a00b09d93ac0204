// SPDX-License-Identifier: MIT OR Apache-2.0
//! One question and its answer as text, in the words of `nix-store -q`.

use super::{Follow, Query};
use crate::error::Result;
use crate::roots::Root;
use crate::store::{ObjectName, PathInfo};
use std::collections::BTreeSet;

/// What `nix-store -q` prints where the deriver is not known.
const UNKNOWN_DERIVER: &str = "unknown-deriver";

/// What is asked about some objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What they refer to.
    References,
    /// What refers to them.
    Referrers,
    /// All that they need.
    Requisites(Follow),
    /// All that needs them.
    ReferrersClosure,
    /// What made each of them.
    Deriver,
    /// The valid derivations of which they are outputs.
    ValidDerivers,
    /// The outputs of each.
    Outputs,
    /// The hash of each.
    Hash,
    /// The size of each.
    Size,
    /// Which of the collector's roots keep them alive.
    Roots(Follow),
    /// Their closures, as a tree.
    Tree,
    /// Their closures, as a graph.
    Graph,
}

impl Query<'_> {
    /// Answers `question` about `names`; the roots of the collector are asked for if it is about
    /// them.
    pub fn answer(
        &mut self,
        question: Question,
        names: &[ObjectName],
        roots: &dyn Fn() -> Result<BTreeSet<Root>>,
    ) -> Result<String> {
        let set: BTreeSet<ObjectName> = names.iter().cloned().collect();
        let found = match question {
            Question::References => self.references(&set)?,
            Question::Referrers => self.referrers(&set)?,
            Question::Requisites(follow) => self.requisites(&set, follow)?,
            Question::ReferrersClosure => self.referrers_closure(&set, Follow::default())?,
            Question::Tree => return self.tree(names),
            Question::Graph => return self.graph(&set),
            Question::Roots(follow) => {
                // Names that are not valid are told before the roots are looked for.
                set.iter().try_for_each(|name| self.info(name).map(drop))?;
                let keeping = self.keeping(&set, &roots()?, follow)?;
                return Ok(keeping.iter().map(|root| self.root_line(root)).collect());
            }
            Question::Deriver => return self.each(names, |query, info| query.deriver(info)),
            Question::Hash => return self.each(names, |_, info| info.nar_hash.to_string()),
            Question::Size => return self.each(names, |_, info| info.nar_size.to_string()),
            Question::ValidDerivers => {
                let mut found = BTreeSet::new();
                for name in &set {
                    found.append(&mut self.valid_derivers(name)?);
                }
                found
            }
            Question::Outputs => {
                let mut text = String::new();
                for name in names {
                    let found = self.output_paths(name)?;
                    text.push_str(&self.lines(&found));
                }
                return Ok(text);
            }
        };
        let sorted = self.sorted(&found)?;
        Ok(self.lines(&sorted))
    }

    /// One line for each of `names`.
    fn each(
        &mut self,
        names: &[ObjectName],
        line: impl Fn(&Self, &PathInfo) -> String,
    ) -> Result<String> {
        let mut text = String::new();
        for name in names {
            let info = self.info(name)?;
            text.push_str(&line(self, &info));
            text.push('\n');
        }
        Ok(text)
    }

    fn lines<'n>(&self, names: impl IntoIterator<Item = &'n ObjectName>) -> String {
        let line = |name| format!("{}\n", self.shown(name));
        names.into_iter().map(line).collect()
    }

    fn deriver(&self, info: &PathInfo) -> String {
        let deriver = info.deriver.as_ref().map(|deriver| self.shown(deriver));
        deriver.unwrap_or_else(|| UNKNOWN_DERIVER.to_owned())
    }

    fn root_line(&self, root: &Root) -> String {
        format!("{} -> {}\n", root.link.display(), self.shown(&root.object))
    }
}
