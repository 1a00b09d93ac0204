// SPDX-License-Identifier: MIT OR Apache-2.0
//! "4 readers walking the merged store while names come and go for 60 s; every answer was true at
//! some moment between call and return", in all modes at the same time.
//!
//! A change behind the mount may show from its beginning, and must once the barrier after it has
//! returned; one through the mount once its call has returned; one inside of an unfinished lower
//! object within `lower-ttl` of the last late answer. Every answer is held against the states that its name had between
//! call and return, when it is given.

mod journal;
mod judge;
mod reader;
mod world;
mod writer;

use crate::common::fixture::Fixture;
use crate::common::mode::{self, Mode};
use crate::quiet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use world::World;
use writer::{Dice, Writer};

const READERS: u64 = 4;
/// Set to a number of seconds for a shorter or longer run.
const SECONDS: &str = "OVERSTORE_LOAD_SECONDS";
/// More than the `lower-ttl` of the mount, 200 ms: it counts from when an answer arrives, which on a
/// machine that is busy with this may be late.
const TTL: Duration = Duration::from_secs(1);

fn duration() -> Duration {
    let seconds = std::env::var(SECONDS).ok();
    let seconds = seconds.map_or(60, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Ends everybody's work when one of them fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn walk(fx: &Fixture) {
    if fx.on_kernel() {
        fx.skip("the kernel's OverlayFS forbids its layers to change");
    }
    let (lower, upper) = (fx.lower().path(""), fx.upper().path(""));
    let trim = |path: std::path::PathBuf| path.components().collect::<std::path::PathBuf>();
    let world = World::new(fx.scratch("merged"), trim(lower), trim(upper));
    let m = fx.mount_with("lower-ttl=200ms");
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut writer = Writer::new(&world, TTL);
    thread::scope(|scope| {
        let _ends = Ends(&over);
        for reader in 1..=READERS {
            let (world, over, asked) = (&world, &over, &asked);
            scope.spawn(move || {
                let _ends = Ends(over);
                let mut dice = Dice(reader << 32 | 0xDEAD_BEEF);
                while !over.load(Ordering::Relaxed) {
                    reader::ask(world, &mut dice);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + duration();
        while Instant::now() < end && !over.load(Ordering::Relaxed) {
            writer.some_changes();
        }
    });
    let asked = asked.into_inner();
    println!("{asked} answers were true, {} changes", writer.changes);
    assert!(asked > 1000 && writer.changes > 100, "no load");
    drop(m);
    fx.lower_changed_outside();
}

/// Runs all modes at once, the first time that one is asked for.
fn outcome(mode: Mode, path: &'static str) {
    static OUTCOMES: OnceLock<Vec<(Mode, Result<(), String>)>> = OnceLock::new();
    if mode::is_child() {
        return mode::run(mode, path, walk);
    }
    let module = path.rsplit_once("::").map_or("", |(module, _)| module);
    let run = |mode: Mode| {
        let path = format!("{module}::{mode:?}");
        let done = catch_unwind(AssertUnwindSafe(|| mode::run(mode, &path, walk)));
        done.map_err(|_| format!("failed as {mode:?}, see above"))
    };
    let mut first = false;
    let outcomes = OUTCOMES.get_or_init(|| {
        first = true;
        quiet::together(|| {
            thread::scope(|scope| {
                let modes = [Mode::root, Mode::userns, Mode::user];
                let runs = modes.map(|mode| (mode, scope.spawn(move || run(mode))));
                let ended = runs.map(|(mode, run)| (mode, run.join().expect("panics are caught")));
                ended.into_iter().collect()
            })
        })
    });
    // What the modes printed is the first one's: so it fails with any of them, and shows it.
    for (_, outcome) in outcomes.iter().filter(|(ran, _)| first || *ran == mode) {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

#[test]
fn root() {
    outcome(Mode::root, concat!(module_path!(), "::root"));
}

#[test]
fn userns() {
    outcome(Mode::userns, concat!(module_path!(), "::userns"));
}

#[test]
fn user() {
    outcome(Mode::user, concat!(module_path!(), "::user"));
}
