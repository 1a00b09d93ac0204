// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs: specifications at random, and those that are kept.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::divergence::ROWS;
use crate::driver::{self, Hits};
use crate::op::Spec;
use crate::{generate, report};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// How many sequences a run has; half of them have seeds that no run had before.
const SEQUENCES: &str = "OVERSTORE_RIG_SEQUENCES";
/// The first seed; all others follow it.
const SEED: &str = "OVERSTORE_RIG_SEED";
const USUAL: u64 = 100;
/// From this size on every row must have been needed.
const NIGHTLY: u64 = 5000;
/// How many operations a sequence has.
const LENGTH: usize = 40;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    Some(
        text.to_str()
            .and_then(|text| text.parse().ok())
            .expect("a number"),
    )
}

/// Returns the seeds of this run.
fn seeds() -> Vec<u64> {
    let count = number(SEQUENCES).unwrap_or(USUAL);
    if let Some(first) = number(SEED) {
        return (first..first + count).collect();
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is after 1970");
    let fresh = now.as_secs() * 1_000_000 + u64::from(now.subsec_micros());
    println!(
        "fixed seeds 0 to {}, fresh ones from {fresh}",
        count.div_ceil(2)
    );
    (0..count.div_ceil(2))
        .chain(fresh..fresh + count / 2)
        .collect()
}

fn check(fx: &Fixture, name: &str, spec: &Spec) -> Hits {
    match driver::run(fx, spec) {
        Ok(hits) => hits,
        Err(why) => {
            let (spec, why) = report::shrink(spec.clone(), why, |one| driver::run(fx, one).err());
            panic!("{}", report::tell(name, &spec, &why));
        }
    }
}

fn add(sum: &mut Hits, hits: Hits) {
    sum.iter_mut().zip(hits).for_each(|(sum, one)| *sum += one);
}

for_each_mode!(
    /// Sequences at random: every view is what its model says, after every step.
    at_random,
    |fx| {
        let mut sum = Hits::default();
        let seeds = seeds();
        for seed in &seeds {
            let spec = generate::spec(*seed, LENGTH);
            assert_eq!(spec.to_string().parse::<Spec>().as_ref(), Ok(&spec), "the text form");
            add(&mut sum, check(fx, &format!("seed {seed}"), &spec));
        }
        for (row, hits) in ROWS.iter().zip(sum) {
            println!("row {}: needed {hits} times", row.name);
            let unused = hits == 0 && fx.mode().may_mount() && seeds.len() as u64 >= NIGHTLY;
            assert!(!unused, "the row {} was never needed", row.name);
        }
    }
);

for_each_mode!(
    /// What was found once, and one specification per row.
    kept,
    |fx| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
        let mut files: Vec<_> = fs::read_dir(directory).must().map(|entry| entry.must().path()).collect();
        files.sort();
        let mut sum = Hits::default();
        for file in files {
            let text = fs::read_to_string(&file).must();
            let spec = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            add(&mut sum, check(fx, &file.display().to_string(), &spec));
        }
        for (row, hits) in ROWS.iter().zip(sum) {
            assert!(hits > 0 || !fx.mode().may_mount(), "no kept file needs the row {}", row.name);
        }
    }
);
