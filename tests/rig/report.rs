// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a failing specification small, and prints it.
//!
//! Invariant: what is printed was seen to fail.

use crate::op::Spec;
use std::time::{Duration, Instant};

/// How long the search for a smaller one may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn without<T: Clone>(all: &[T], start: usize, count: usize) -> Vec<T> {
    let end = (start + count).min(all.len());
    [&all[..start], &all[end..]].concat()
}

/// Returns all that are smaller by `count` operations or objects of a layer.
fn smaller(spec: &Spec, count: usize) -> impl Iterator<Item = Spec> + '_ {
    let ops = (0..spec.ops.len())
        .step_by(count)
        .rev()
        .map(move |start| Spec {
            given: spec.given.clone(),
            ops: without(&spec.ops, start, count),
        });
    let given = (0..spec.given.len())
        .step_by(count)
        .rev()
        .map(move |start| Spec {
            given: without(&spec.given, start, count),
            ops: spec.ops.clone(),
        });
    ops.chain(given)
}

/// Leaves out what the failure does not need; returns the rest and how it fails.
pub(crate) fn shrink(
    spec: Spec,
    why: String,
    fails: impl Fn(&Spec) -> Option<String>,
) -> (Spec, String) {
    let end = Instant::now() + PATIENCE;
    let (mut spec, mut why) = (spec, why);
    let mut count = spec.ops.len().max(spec.given.len()).div_ceil(2);
    while count > 0 && Instant::now() < end {
        let tried = smaller(&spec, count).take_while(|_| Instant::now() < end);
        let found = tried
            .filter_map(|one| fails(&one).map(|why| (one, why)))
            .next();
        match found {
            Some(better) => (spec, why) = better,
            None if count == 1 => break,
            None => count = count.div_ceil(2).min(count - 1),
        }
    }
    (spec, why)
}

/// Tells about a failure in a form that can be pasted into tests/regressions/NAME.ops.
pub(crate) fn tell(name: &str, spec: &Spec, why: &str) -> String {
    format!("{name}: {why}\n--- tests/regressions/NAME.ops:\n{spec}---")
}
