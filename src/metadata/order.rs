// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which objects are registered: what is referred to first.
//!
//! Invariant: the depth of a closure costs no stack.

use crate::store::ObjectName;
use std::collections::{BTreeMap, BTreeSet};

/// A reference that closes a cycle: who refers, and to whom.
pub(super) type Cycle<'a> = (&'a ObjectName, &'a ObjectName);

/// Whom each object of a set refers to, inside the set or not.
pub(super) type Graph<'a> = BTreeMap<&'a ObjectName, Vec<&'a ObjectName>>;

/// Returns the objects of `graph`, each behind those that it refers to; references to itself and to
/// what is not in the set do not count.
pub(super) fn references_first<'a>(graph: &Graph<'a>) -> Result<Vec<&'a ObjectName>, Cycle<'a>> {
    let mut ordered = Vec::with_capacity(graph.len());
    let mut done: BTreeSet<&ObjectName> = BTreeSet::new();
    let mut open: BTreeSet<&ObjectName> = BTreeSet::new();
    for &start in graph.keys() {
        // Each with the number of its references that were looked at.
        let mut way = vec![(start, 0)];
        while let Some((object, seen)) = way.last_mut() {
            let object = *object;
            if done.contains(object) {
                way.pop();
                continue;
            }
            open.insert(object);
            let Some(&next) = graph.get(object).and_then(|others| others.get(*seen)) else {
                open.remove(object);
                done.insert(object);
                ordered.push(object);
                way.pop();
                continue;
            };
            *seen += 1;
            if next == object || !graph.contains_key(next) || done.contains(next) {
                continue;
            }
            if open.contains(next) {
                return Err((object, next));
            }
            way.push((next, 0));
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ObjectName {
        ObjectName::parse(format!("{number:032}-x").as_bytes()).unwrap()
    }

    fn graph<'a>(names: &'a [ObjectName], edges: &[(usize, usize)]) -> Graph<'a> {
        let mut graph: Graph<'a> = names.iter().map(|name| (name, Vec::new())).collect();
        for (from, to) in edges {
            graph.get_mut(&names[*from]).unwrap().push(&names[*to]);
        }
        graph
    }

    #[test]
    fn deep_closures_are_ordered() {
        let names: Vec<_> = (0..200_000).map(name).collect();
        let edges: Vec<_> = (1..names.len()).map(|at| (at - 1, at)).collect();
        let graph = graph(&names, &edges);
        let ordered = references_first(&graph).unwrap();
        assert!(ordered.iter().rev().copied().eq(names.iter()));
    }

    #[test]
    fn cycles_are_told_and_own_references_are_none() {
        let names: Vec<_> = (0..4).map(name).collect();
        let diamond = graph(&names, &[(0, 1), (0, 2), (1, 3), (2, 3), (3, 3)]);
        let ordered = references_first(&diamond).unwrap();
        assert_eq!(ordered, [&names[3], &names[1], &names[2], &names[0]]);
        let cycle = graph(&names, &[(0, 1), (1, 2), (2, 1)]);
        assert_eq!(references_first(&cycle), Err((&names[2], &names[1])));
    }

    #[test]
    fn what_is_outside_does_not_count() {
        let names: Vec<_> = (0..3).map(name).collect();
        let graph = graph(&names[..2], &[]);
        let mut graph = graph;
        graph.insert(&names[0], vec![&names[2]]);
        assert_eq!(references_first(&graph).unwrap().len(), 2);
    }
}
