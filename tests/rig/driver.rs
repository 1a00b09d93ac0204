// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a specification on the models and on the real views, and compares.
//!
//! Invariant: each real view is compared with the model of its own rules, always; the two models
//! with each other until a row has allowed them to differ.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::divergence::{Case, ROWS, row};
use crate::model::layer::build;
use crate::model::{Model, Rules};
use crate::mounted::{Backend, Mounted};
use crate::op::{Op, Spec};
use crate::outcome::{Outcome, Snapshot};
use std::os::unix::fs::MetadataExt;

/// After how many steps everything is looked at.
const LOOK: usize = 8;

/// How often each row was needed.
pub(crate) type Hits = [usize; ROWS.len()];

/// A model and the view that must be like it.
struct Pair<'a> {
    name: &'static str,
    model: Model,
    real: Mounted<'a>,
    backend: Backend,
}

impl Pair<'_> {
    fn step(&mut self, op: &Op) -> Result<Outcome, String> {
        let changed = if op.is_outside() {
            self.real.lower_changes()
        } else {
            Vec::new()
        };
        if !changed.is_empty() {
            return Err(format!("{}: the lower changed: {changed:#?}", self.name));
        }
        let (model, real) = (self.model.apply(op), self.real.apply(op));
        match model.describes(&real) {
            true => Ok(model),
            false => Err(format!(
                "{}: {op}\n  answered {real:?}\n  instead of {model:?}",
                self.name
            )),
        }
    }

    fn look(&self, when: &str) -> Result<(), String> {
        compare(
            &self.model,
            &self.real.snapshot(),
            &format!("{}: {when}", self.name),
        )
    }

    /// What must hold at the end; `other` mounts the layers as well.
    fn finish(&mut self, other: Option<Backend>) -> Result<(), String> {
        self.look("at the end")?;
        let _done = self.step(&Op::Remount)?;
        self.look("mounted again")?;
        if let Some(backend) = other {
            self.real.mount(backend);
            let rules = if backend == Backend::Fuse {
                Rules::Here
            } else {
                Rules::Kernel
            };
            let when = format!("{}: its layers mounted by the other", self.name);
            compare(&self.model.under(rules), &self.real.snapshot(), &when)?;
        }
        match self.real.lower_changes() {
            changed if changed.is_empty() => Ok(()),
            changed => Err(format!("{}: the lower changed: {changed:#?}", self.name)),
        }
    }
}

fn compare(model: &Model, real: &Snapshot, when: &str) -> Result<(), String> {
    let differences = model.snapshot().differences(real);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(format!("{when}\n  {}", differences.join("\n  "))),
    }
}

/// Everything but the times: the kernel sets some where nothing is changed.
fn shown(model: &Model) -> Snapshot {
    let mut snapshot = model.snapshot();
    snapshot
        .entries
        .values_mut()
        .for_each(|entry| entry.mtime = None);
    snapshot
}

/// Tells whether two models show the same and hold the same names in the upper.
fn alike(here: &Model, kernel: &Model) -> bool {
    let bare = |model: &Model| {
        let mut bare = model.under(Rules::Here);
        bare.lower = crate::model::layer::Layer::new(0);
        let entries = bare.snapshot().entries.into_iter();
        entries
            .map(|(place, entry)| (place, entry.kind))
            .collect::<Vec<_>>()
    };
    shown(here) == shown(kernel) && bare(here) == bare(kernel)
}

fn timeless(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    if let Outcome::Stat(entry) = &mut outcome {
        entry.mtime = None;
    }
    outcome
}

/// Returns the row that allows the models to differ, where they do.
fn allowed(case: &Case<'_>, here: &Model, kernel: &Model) -> Result<Option<usize>, String> {
    if timeless(case.here) == timeless(case.kernel) && alike(here, kernel) {
        return Ok(None);
    }
    row(case).map(Some).ok_or_else(|| {
        let op = case
            .op
            .map_or("the first look".to_owned(), ToString::to_string);
        let differences = kernel.snapshot().differences(&here.snapshot());
        format!(
            "no row: {op}\n  here {:?}\n  kernel {:?}\n  {}",
            case.here,
            case.kernel,
            differences.join("\n  ")
        )
    })
}

/// Runs `spec`; tells which rows it needed, or what was wrong.
pub(crate) fn run(fx: &Fixture, spec: &Spec) -> Result<Hits, String> {
    let scratch = std::fs::metadata(fx.scratch("")).must();
    let owner = (scratch.uid(), rustix::process::getegid().as_raw());
    let (_, _, given) = build(&spec.given);
    let pair = |name, rules, backend| Pair {
        name,
        model: Model::new(rules, spec, owner),
        real: Mounted::new(fx, name, backend, &given),
        backend,
    };
    let mut pairs = vec![pair("fuse", Rules::Here, Backend::Fuse)];
    if fx.mode().may_mount() {
        pairs.push(pair("kernel", Rules::Kernel, Backend::Kernel));
    }
    let mut other = pairs
        .iter()
        .rev()
        .map(|pair| pair.backend)
        .collect::<Vec<_>>();
    other.truncate(if pairs.len() == 2 { 2 } else { 0 });
    let result = steps(&mut pairs, spec).and_then(|hits| {
        let mut others = other.into_iter();
        pairs
            .iter_mut()
            .try_for_each(|pair| pair.finish(others.next()))?;
        Ok(hits)
    });
    pairs.into_iter().for_each(|pair| pair.real.remove());
    result
}

/// What both sides of a comparison go by.
struct Judge {
    hits: Hits,
    /// No row has allowed a difference yet.
    together: bool,
}

impl Judge {
    fn judge(&mut self, case: &Case<'_>, pairs: &[Pair<'_>]) -> Result<(), String> {
        if let (true, [here, kernel]) = (self.together, pairs) {
            let found = allowed(case, &here.model, &kernel.model)?;
            found.into_iter().for_each(|row| self.hits[row] += 1);
            self.together = found.is_none();
        }
        Ok(())
    }
}

fn steps(pairs: &mut Vec<Pair<'_>>, spec: &Spec) -> Result<Hits, String> {
    let mut judge = Judge {
        hits: Hits::default(),
        together: true,
    };
    pairs.iter().try_for_each(|pair| pair.look("at first"))?;
    let (before, done) = (&pairs[0].model.clone(), &Outcome::Done);
    judge.judge(
        &Case {
            op: None,
            before,
            here: done,
            kernel: done,
        },
        pairs,
    )?;
    for (number, op) in (1..).zip(&spec.ops) {
        if matches!(op, Op::OutsideRemoveDuplicate(_)) && pairs.len() == 2 {
            // The kernel's upper refers to its own objects: it cannot lose one behind its back.
            pairs.pop().into_iter().for_each(|pair| pair.real.remove());
        }
        let before = &pairs[0].model.clone();
        let outcomes = pairs
            .iter_mut()
            .map(|pair| pair.step(op))
            .collect::<Result<Vec<_>, _>>();
        let outcomes = outcomes.map_err(|what| format!("step {number}: {what}"))?;
        if let [here, kernel] = &outcomes[..] {
            judge.judge(
                &Case {
                    op: Some(op),
                    before,
                    here,
                    kernel,
                },
                pairs,
            )?;
        }
        if number % LOOK == 0 {
            pairs
                .iter()
                .try_for_each(|pair| pair.look(&format!("after step {number}")))?;
        }
    }
    Ok(judge.hits)
}
