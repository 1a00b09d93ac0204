// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs: specifications at random, and those that are kept.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::divergence::ROWS;
use crate::driver::{self, Hits};
use crate::mounted::Yard;
use crate::op::Spec;
use crate::{generate, report};
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

/// How many sequences a run has; half of them have seeds that no run had before.
const SEQUENCES: &str = "OVERSTORE_RIG_SEQUENCES";
/// The first seed; all others follow it.
const SEED: &str = "OVERSTORE_RIG_SEED";
/// The name of the fault that the driver has: it must be seen.
const FAULT: &str = "OVERSTORE_RIG_FAULT";
/// In how many sequences, at least: so often that other seeds see it as well.
const ENOUGH: usize = 5;
const USUAL: u64 = 30;
/// From this size on every row must have been needed.
const NIGHTLY: u64 = 5000;
/// How many operations a sequence has.
const LENGTH: usize = 40;
/// How many run at a time.
const WORKERS: usize = 4;

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

fn check(yard: &Yard, name: &str, spec: &Spec) -> Hits {
    match driver::run(yard, spec) {
        Ok(hits) => hits,
        Err(why) => {
            let (spec, why) = report::shrink(spec.clone(), why, |one| driver::run(yard, one).err());
            panic!("{}", report::tell(name, &spec, &why));
        }
    }
}

fn add(sum: &mut Hits, hits: Hits) {
    sum.iter_mut().zip(hits).for_each(|(sum, one)| *sum += one);
}

/// Ends the other workers when one fails.
struct EndAll<'a>(&'a AtomicUsize, usize);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(self.1, Ordering::Relaxed);
        }
    }
}

/// Does `one` with every number below `count`; several at a time, as most of the time is spent
/// waiting for mounts to come and go.
fn each<T: Send>(
    fx: &Fixture,
    count: usize,
    one: impl Fn(&Yard, usize) -> T + Sync,
) -> impl Iterator<Item = T> {
    let next = AtomicUsize::new(0);
    let work = |worker: usize| {
        let yard = Yard::new(fx.mode(), fx.family(), fx.scratch(&worker.to_string()));
        let (next, one) = (&next, &one);
        move || {
            let _end = EndAll(next, count);
            let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            let mine = numbers.take_while(|number| *number < count);
            mine.map(|number| one(&yard, number)).collect::<Vec<_>>()
        }
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(work(worker)))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|why| resume_unwind(why))
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.into_iter()
}

/// Requires that a driver with a fault is not taken for a good one: some sequences must differ.
fn is_found(fx: &Fixture, fault: &str, seeds: &[u64]) {
    let failures = each(fx, seeds.len(), |yard, number| {
        let spec = generate::spec(seeds[number], LENGTH);
        driver::run(yard, &spec)
            .err()
            .map(|why| (seeds[number], why))
    });
    // What counts is that the driver's view is not what its model says.
    let of_the_driver = |why: &str| {
        let step = why
            .strip_prefix("step ")
            .and_then(|rest| rest.split_once(": "));
        // A driver that is gone answers wrongly, but has not been seen to do so.
        let gone = format!("{:?}", rustix::io::Errno::NOTCONN);
        step.map_or(why, |(_, rest)| rest).starts_with("fuse: ") && !why.contains(&gone)
    };
    let failures: Vec<_> = failures
        .flatten()
        .filter(|(_, why)| of_the_driver(why))
        .collect();
    println!(
        "\nfault {fault}: seen by {} of {} sequences",
        failures.len(),
        seeds.len()
    );
    for (seed, why) in &failures {
        let first = why.lines().next().unwrap_or_default();
        println!("  seed {seed}: {first}");
    }
    assert!(
        failures.len() >= ENOUGH,
        "the fault {fault} is hardly ever seen"
    );
}

for_each_mode!(
    /// Sequences at random: every view is what its model says, after every step.
    at_random,
    |fx| {
        let seeds = seeds();
        if let Some(fault) = std::env::var_os(FAULT) {
            return is_found(fx, &fault.display().to_string(), &seeds);
        }
        let mut sum = Hits::default();
        let hits = each(fx, seeds.len(), |yard, number| {
            let spec = generate::spec(seeds[number], LENGTH);
            assert_eq!(spec.to_string().parse::<Spec>().as_ref(), Ok(&spec), "the text form");
            check(yard, &format!("seed {}", seeds[number]), &spec)
        });
        hits.for_each(|hits| add(&mut sum, hits));
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
        let hits = each(fx, files.len(), |yard, number| {
            let name = files[number].display().to_string();
            let text = fs::read_to_string(&name).must();
            let spec = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            check(yard, &name, &spec)
        });
        hits.for_each(|hits| add(&mut sum, hits));
        for (row, hits) in ROWS.iter().zip(sum) {
            assert!(hits > 0 || !fx.mode().may_mount(), "no kept file needs the row {}", row.name);
        }
    }
);
