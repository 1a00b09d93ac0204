// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which objects are alive: those that roots lead to.
//!
//! Decides by the rows of the upper database. An object of the lower alone is looked at only where a
//! root leads to it, and only while something could still be found dead: so the lower's size costs
//! nothing. Invariant: an answer that could not be had is an error, never a dead object.

use crate::error::Result;
use crate::metadata::{Graph, Source};
use crate::roots::{HashPart, Interrupt, Root};
use crate::store::ObjectName;
use crate::store::derivation::is_derivation;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// What else a live object keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// A derivation keeps its outputs.
    pub outputs: bool,
    /// An object keeps the derivation that made it.
    pub derivations: bool,
}

/// Why an object is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// A root leads to it.
    Root(PathBuf),
    /// A running process keeps it.
    Process,
    /// Another one that is alive needs it.
    Needed(usize),
}

/// The objects that are known, each by a number; those with a row come first.
#[derive(Debug)]
pub(super) struct World {
    names: Vec<ObjectName>,
    numbers: HashMap<ObjectName, usize>,
    graph: Graph,
    /// Which rows name a derivation with a row as the one that made them.
    made_by: HashMap<usize, Vec<usize>>,
    keep: Keep,
    alive: Vec<Option<Why>>,
    /// Objects without a row to which something leads: maybe the lower has them.
    beyond: Vec<(usize, Why)>,
    open: Vec<usize>,
}

impl World {
    pub(super) fn new(graph: Graph, keep: Keep) -> World {
        let names = graph.names.clone();
        let numbers: HashMap<ObjectName, usize> = names.iter().cloned().zip(0..).collect();
        let mut made_by: HashMap<usize, Vec<usize>> = HashMap::new();
        for (made, deriver) in graph.derivers.iter().enumerate() {
            if let Some(by) = deriver.as_ref().and_then(|name| numbers.get(name)) {
                made_by.entry(*by).or_default().push(made);
            }
        }
        World {
            alive: vec![None; names.len()],
            names,
            numbers,
            graph,
            made_by,
            keep,
            beyond: Vec::new(),
            open: Vec::new(),
        }
    }

    /// How many objects have a row.
    pub(super) fn rows(&self) -> usize {
        self.graph.names.len()
    }

    pub(super) fn name(&self, number: usize) -> &ObjectName {
        &self.names[number]
    }

    pub(super) fn number(&self, name: &ObjectName) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(super) fn has_row(&self, name: &ObjectName) -> bool {
        self.number(name).is_some_and(|number| number < self.rows())
    }

    /// Returns what an object with a row refers to.
    pub(super) fn references(&self, number: usize) -> &[usize] {
        self.graph.references.get(number).map_or(&[], Vec::as_slice)
    }

    pub(super) fn why(&self, name: &ObjectName) -> Option<&Why> {
        self.alive[self.number(name)?].as_ref()
    }

    /// Returns what is alive, sorted.
    pub(super) fn all_alive(&self) -> BTreeSet<&ObjectName> {
        let alive = self.alive.iter().zip(&self.names);
        alive
            .filter_map(|(why, name)| why.is_some().then_some(name))
            .collect()
    }

    fn intern(&mut self, name: &ObjectName) -> usize {
        if let Some(number) = self.number(name) {
            return number;
        }
        let number = self.names.len();
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        self.alive.push(None);
        number
    }

    fn reach(&mut self, name: &ObjectName, why: Why) {
        let number = self.intern(name);
        self.reach_number(number, why);
    }

    fn reach_number(&mut self, number: usize, why: Why) {
        if self.alive[number].is_some() {
            return;
        }
        if number < self.rows() {
            self.alive[number] = Some(why);
            self.open.push(number);
        } else {
            self.beyond.push((number, why));
        }
    }

    /// Marks what roots lead to, as far as there are rows for it.
    pub(super) fn mark(
        &mut self,
        roots: &BTreeSet<Root>,
        processes: &BTreeSet<HashPart>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        for root in roots {
            self.reach(&root.object, Why::Root(root.link.clone()));
        }
        for number in 0..self.rows() {
            if processes.contains(&HashPart::of(&self.names[number])) {
                self.reach_number(number, Why::Process);
            }
        }
        self.follow_rows(interrupt)
    }

    fn follow_rows(&mut self, interrupt: &Interrupt) -> Result<()> {
        while let Some(number) = self.open.pop() {
            interrupt.check("find what is alive")?;
            for at in 0..self.graph.references[number].len() {
                let reference = self.graph.references[number][at];
                self.reach_number(reference, Why::Needed(number));
            }
            if self.keep.derivations
                && let Some(deriver) = self.graph.derivers[number].clone()
            {
                self.reach(&deriver, Why::Needed(number));
            }
            if self.keep.outputs {
                self.reach_outputs(number);
            }
        }
        Ok(())
    }

    /// Marks the outputs of a derivation. Those that are named by their contents no row of the
    /// derivation tells: what says that it was made by it is kept instead, so nothing too little.
    fn reach_outputs(&mut self, number: usize) {
        for output in self.graph.outputs[number].clone() {
            self.reach(&output, Why::Needed(number));
        }
        if !is_derivation(&self.names[number]) || !self.graph.outputs[number].is_empty() {
            return;
        }
        for made in self.made_by.get(&number).cloned().unwrap_or_default() {
            self.reach_number(made, Why::Needed(number));
        }
    }

    /// Goes on through objects of the lower that have no row here. What they refer to is in the lower
    /// as well, but its copy in the upper, or its signatures there, belong to what is alive.
    pub(super) fn mark_beyond(
        &mut self,
        processes: &BTreeSet<HashPart>,
        lower: Option<&dyn Source>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let Some(lower) = lower else {
            return Ok(());
        };
        let with_row: BTreeSet<HashPart> = self.graph.names.iter().map(HashPart::of).collect();
        for hash_part in processes.difference(&with_row) {
            if let Some(name) = lower.with_hash_part(&hash_part.text())? {
                self.reach(&name, Why::Process);
            }
        }
        while let Some((number, why)) = self.beyond.pop() {
            interrupt.check("find what is alive")?;
            if self.alive[number].is_some() {
                continue;
            }
            let name = self.names[number].clone();
            let Some(info) = lower.path_info(&name)? else {
                continue;
            };
            self.alive[number] = Some(why);
            for reference in info.others() {
                self.reach(reference, Why::Needed(number));
            }
            if self.keep.derivations
                && let Some(deriver) = &info.deriver
            {
                self.reach(deriver, Why::Needed(number));
            }
            if self.keep.outputs && is_derivation(&name) {
                for output in lower.outputs(&name)?.values() {
                    self.reach(output, Why::Needed(number));
                }
            }
            self.follow_rows(interrupt)?;
        }
        Ok(())
    }

    /// Tells in words why the object is alive.
    pub(super) fn explain(&self, name: &ObjectName) -> Option<String> {
        Some(match self.why(name)? {
            Why::Root(link) => format!("{} is a root of it", link.display()),
            Why::Process => "a running process keeps it".to_owned(),
            Why::Needed(by) => {
                let mut top = *by;
                while let Some(Why::Needed(next)) = &self.alive[top] {
                    top = *next;
                }
                let by = &self.names[*by];
                match &self.alive[top] {
                    Some(Why::Root(link)) => {
                        format!("{by} needs it, which {} keeps", link.display())
                    }
                    _ => format!("{by} needs it, which a running process keeps"),
                }
            }
        })
    }

    /// Returns the numbers of dead rows, what others refer to behind those.
    pub(super) fn dead_in_order(&self, dead: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut referrers = vec![0_usize; self.rows()];
        let dead: Vec<bool> = (0..self.rows()).map(dead).collect();
        for number in (0..self.rows()).filter(|number| dead[*number]) {
            for reference in self.references(number) {
                referrers[*reference] += 1;
            }
        }
        let mut order: Vec<usize> = (0..self.rows())
            .filter(|number| dead[*number] && referrers[*number] == 0)
            .collect();
        let mut at = 0;
        while let Some(number) = order.get(at).copied() {
            at += 1;
            for &reference in self.references(number) {
                referrers[reference] -= 1;
                if referrers[reference] == 0 && dead[reference] {
                    order.push(reference);
                }
            }
        }
        // A circle, which no sound database has, comes last: the database refuses to delete it.
        let met: BTreeSet<usize> = order.iter().copied().collect();
        order.extend((0..self.rows()).filter(|number| dead[*number] && !met.contains(number)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize, name: &str) -> ObjectName {
        ObjectName::parse(format!("{number:032}-{name}").as_bytes()).unwrap()
    }

    /// A derivation with an output that its row tells, and one whose output is named by its contents.
    fn graph() -> Graph {
        let names = vec![
            name(0, "told.drv"),
            name(1, "told"),
            name(2, "addressed.drv"),
            name(3, "addressed"),
            name(4, "other"),
        ];
        let drv = |number: usize| Some(names[number].clone());
        Graph {
            derivers: vec![None, drv(0), None, drv(2), drv(0)],
            references: vec![Vec::new(); 5],
            outputs: vec![vec![names[1].clone()], vec![], vec![], vec![], vec![]],
            names,
        }
    }

    fn alive(root: usize, outputs: bool, derivations: bool) -> Vec<usize> {
        let graph = graph();
        let root = Root {
            link: "/root".into(),
            object: graph.names[root].clone(),
        };
        let keep = Keep {
            outputs,
            derivations,
        };
        let mut world = World::new(graph, keep);
        let nobody = BTreeSet::new();
        world
            .mark(&[root].into(), &nobody, &Interrupt::never())
            .unwrap();
        let all = 0..world.rows();
        all.filter(|number| world.alive[*number].is_some())
            .collect()
    }

    #[test]
    fn outputs_and_derivations_keep_each_other_as_is_asked() {
        assert_eq!(alive(0, false, false), [0]);
        assert_eq!(alive(0, true, false), [0, 1]);
        assert_eq!(alive(1, true, false), [1]);
        assert_eq!(alive(1, false, true), [0, 1]);
        assert_eq!(alive(1, true, true), [0, 1]);
        // No row of the derivation tells its output.
        assert_eq!(alive(2, true, false), [2, 3]);
        assert_eq!(alive(2, false, true), [2]);
        assert_eq!(alive(3, false, true), [2, 3]);
        assert_eq!(alive(4, true, true), [0, 1, 4]);
    }
}
