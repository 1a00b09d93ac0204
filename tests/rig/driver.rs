// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a specification on the models and on the real views, and compares.
//!
//! Invariant: each real view is compared with the model of its own rules, always; the two models
//! with each other until a row has allowed them to differ.

use crate::divergence::{Case, ROWS, row};
use crate::model::layer::build;
use crate::model::{Model, Rules};
use crate::mounted::{Backend, Mounted, Yard};
use crate::op::{Op, Spec};
use crate::outcome::{Outcome, Snapshot};
use rustix::io::Errno;

/// After how many steps everything is looked at.
const LOOK: usize = 8;

/// How often each row was needed.
pub(crate) type Hits = [usize; ROWS.len()];

/// A model and the view that must be like it.
struct Pair<'a> {
    model: Model,
    real: Mounted<'a>,
}

/// The rules by which a backend goes.
fn rules_of(backend: Backend) -> Rules {
    match backend {
        Backend::Fuse => Rules::Here,
        Backend::Kernel => Rules::Kernel,
    }
}

impl Pair<'_> {
    fn is_here(&self) -> bool {
        self.model.rules == Rules::Here
    }

    fn name(&self) -> &'static str {
        if self.is_here() { "fuse" } else { "kernel" }
    }

    /// Returns who may go on with the layers, when it is the other's turn.
    fn other(&self, yard: &Yard) -> Option<Backend> {
        match self.real.backend() {
            Backend::Kernel => Some(Backend::Fuse),
            Backend::Fuse => {
                (yard.has_kernel() && self.model.suits_kernel()).then_some(Backend::Kernel)
            }
        }
    }

    /// Unmounts and mounts again, with the other backend where it can.
    fn hand_over(&mut self, yard: &Yard) -> Outcome {
        let backend = self.other(yard).unwrap_or(self.real.backend());
        self.real.mount(backend);
        self.model = self.model.under(rules_of(backend));
        Outcome::Done
    }

    fn step(&mut self, op: &Op, yard: &Yard) -> Result<Outcome, String> {
        if *op == Op::HandOver {
            return Ok(self.hand_over(yard));
        }
        let changed = if op.is_outside() {
            self.real.lower_changes()
        } else {
            Vec::new()
        };
        if !changed.is_empty() {
            return Err(format!("{}: the lower changed: {changed:#?}", self.name()));
        }
        let parted = !yard.is_privileged() && self.model.moves_onto_itself(op);
        let open = self.model.names_an_open_directory(op);
        let (model, real) = (self.model.apply(op), self.real.apply(op));
        let stale = parted || (open && model == Outcome::Failed(Errno::ROFS));
        match model.describes(&real) || (stale && real == Outcome::Failed(Errno::STALE)) {
            true => Ok(model),
            false => Err(format!(
                "{}: {op}\n  answered {real:?}\n  instead of {model:?}",
                self.name()
            )),
        }
    }

    fn look(&self, when: &str) -> Result<(), String> {
        let when = format!("{}: {when}", self.name());
        compare(&self.model, &self.real.snapshot(), &when)
    }

    /// What must hold at the end.
    fn finish(&mut self, yard: &Yard) -> Result<(), String> {
        self.look("at the end")?;
        let _done = self.step(&Op::Remount, yard)?;
        self.look("mounted again")?;
        if self.other(yard).is_some() {
            let _done = self.hand_over(yard);
            self.look("mounts the layers of the other")?;
        }
        match self.real.lower_changes() {
            changed if changed.is_empty() => Ok(()),
            changed => Err(format!("{}: the lower changed: {changed:#?}", self.name())),
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

/// Everything but what a model leaves open: the kernel sets some times where nothing is changed.
fn shown(model: &Model) -> Snapshot {
    let mut snapshot = model.snapshot();
    for entry in snapshot.entries.values_mut() {
        (entry.mtime, entry.open_links) = (None, false);
    }
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
        (entry.mtime, entry.open_links) = (None, false);
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
pub(crate) fn run(yard: &Yard, spec: &Spec) -> Result<Hits, String> {
    let (_, _, given) = build(&spec.given);
    let pair = |name, backend| Pair {
        model: Model::new(rules_of(backend), spec, yard.owner()),
        real: Mounted::new(yard, name, backend, &given),
    };
    let mut pairs = vec![pair("one", Backend::Fuse)];
    if yard.has_kernel() {
        pairs.push(pair("two", Backend::Kernel));
    }
    let result = steps(&mut pairs, spec, yard).and_then(|hits| {
        pairs.iter_mut().try_for_each(|pair| pair.finish(yard))?;
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
        if let (true, [one, two]) = (self.together, pairs) {
            let (here, kernel) = match (one.is_here(), two.is_here()) {
                (true, false) => (one, two),
                (false, true) => (two, one),
                // The kernel cannot serve one of them: from here on there is no telling.
                _ => {
                    self.together = false;
                    return Ok(());
                }
            };
            let found = allowed(case, &here.model, &kernel.model)?;
            found.into_iter().for_each(|row| self.hits[row] += 1);
            self.together = found.is_none();
        }
        Ok(())
    }
}

/// Does one operation with every pair; both models are judged by what is answered here and there.
fn step(judge: &mut Judge, pairs: &mut [Pair<'_>], op: &Op, yard: &Yard) -> Result<(), String> {
    let first = pairs.iter().position(Pair::is_here).unwrap_or(0);
    let before = &pairs[first].model.clone();
    let mut outcomes = Vec::new();
    for pair in &mut *pairs {
        outcomes.push(pair.step(op, yard)?);
    }
    let [one, two] = &outcomes[..] else {
        return Ok(());
    };
    let (here, kernel) = if first == 0 { (one, two) } else { (two, one) };
    let case = Case {
        op: Some(op),
        before,
        here,
        kernel,
    };
    judge.judge(&case, pairs)
}

fn steps(pairs: &mut Vec<Pair<'_>>, spec: &Spec, yard: &Yard) -> Result<Hits, String> {
    let mut judge = Judge {
        hits: Hits::default(),
        together: true,
    };
    pairs.iter().try_for_each(|pair| pair.look("at first"))?;
    let first = Case {
        op: None,
        before: &pairs[0].model.clone(),
        here: &Outcome::Done,
        kernel: &Outcome::Done,
    };
    judge.judge(&first, pairs)?;
    for (number, op) in (1..).zip(&spec.ops) {
        step(&mut judge, pairs, op, yard).map_err(|what| format!("step {number}: {what}"))?;
        if op.is_outside() && pairs.len() == 2 {
            let lost = pairs
                .iter()
                .position(|pair| !pair.is_here() && !pair.model.suits_kernel());
            lost.into_iter()
                .for_each(|lost| pairs.remove(lost).real.remove());
        }
        if number % LOOK == 0 {
            let when = format!("after step {number}");
            pairs.iter().try_for_each(|pair| pair.look(&when))?;
        }
    }
    Ok(judge.hits)
}
