// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore compare`: what the two backends show for one layout, object by object.
//!
//! Decides what is compared and what of it is a difference. Invariants: nothing is written, and
//! what is kept in memory grows with directories' listings, linked files and differences, not with
//! files.

mod again;
mod content;
mod expected;
mod layers;
mod meet;
mod numbers;
mod probe;
mod relations;
mod report;
mod side;
mod walk;
mod xattrs;

pub use expected::{ROWS, Row};
pub use report::{Difference, Refusal, Report, Tally, What};
pub use side::Value;

use crate::backend::Request;
use crate::backend::pair::Pair;
use crate::error::{Error, Result};
use again::{Again, ROUNDS};
use layers::Layers;
use meet::Comparer;
use numbers::Numbers;
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use report::Findings;
use side::Sides;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use walk::Name;

/// How a comparison is done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether deliberate differences count as differences.
    pub strict: bool,
    /// How many objects are compared at the same time, at least 1.
    pub threads: usize,
}

/// How far a comparison is; may be read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Names at the top of the store.
    pub total: AtomicU64,
    /// Those that are done.
    pub done: AtomicU64,
    /// Objects that were compared, at any depth.
    pub objects: AtomicU64,
    /// Bytes that were read from each side.
    pub bytes: AtomicU64,
}

impl Progress {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Both views of one layout, mounted.
#[derive(Debug)]
pub struct Ready(Pair);

/// Mounts both views of `request`, in namespaces of this process's own.
///
/// Call it while the process has a single thread.
pub fn prepare(request: &Request) -> Result<Ready> {
    Pair::mount(request).map(Ready)
}

impl Ready {
    /// Returns the lower and the upper directory.
    pub fn layers(&self) -> [&Path; 2] {
        [&self.0.lower, &self.0.upper]
    }

    /// Compares the views.
    ///
    /// # Errors
    /// Fails if the top directories cannot be read, or the driver ends meanwhile. Everything else
    /// that one view refuses is a difference.
    pub fn compare(&self, options: Options, progress: &Progress) -> Result<Report> {
        let pair = &self.0;
        let layers = Layers::open(&pair.lower, &pair.upper)?;
        let refresh = || pair.refresh();
        let job = Job {
            fuse: &pair.fuse,
            kernel: &pair.kernel,
            layers: Some(&layers),
            refresh: Some(&refresh),
            options,
            progress,
        };
        let report = job.run();
        pair.check_alive()?;
        report
    }
}

/// Compares two directories as if the first were the driver's view and the second the kernel's;
/// inode numbers are compared by their relations alone, and no difference is a deliberate one.
pub fn trees(fuse: &Path, kernel: &Path, options: Options) -> Result<Report> {
    Job {
        fuse,
        kernel,
        layers: None,
        refresh: None,
        options,
        progress: &Progress::default(),
    }
    .run()
}

/// One comparison.
struct Job<'a> {
    fuse: &'a Path,
    kernel: &'a Path,
    layers: Option<&'a Layers>,
    /// Has both views show the layers as they are now.
    refresh: Option<&'a dyn Fn() -> Result<()>>,
    options: Options,
    progress: &'a Progress,
}

impl Job<'_> {
    fn run(&self) -> Result<Report> {
        let mut last = Again::start();
        let numbers = Numbers::default();
        let (names, mut findings) = self.pass(&numbers)?;
        let mut looked_again = 0;
        if let (Some(layers), Some(refresh)) = (self.layers, self.refresh) {
            for _ in 0..ROUNDS {
                let changed = last.changed(layers, &findings);
                if changed.is_empty() {
                    break;
                }
                last = Again::start();
                refresh()?;
                looked_again = looked_again.max(changed.len());
                self.repeat(&names, &changed, &mut findings)?;
            }
        }
        let suspects = numbers.suspects();
        if !suspects.is_empty() {
            findings.push(relations::differences(&self.sides()?, &names, &suspects));
        }
        let mut report = Report::new(self.options.strict, findings);
        report.looked_again = looked_again;
        Ok(report)
    }

    fn sides(&self) -> Result<Sides> {
        Sides::open(self.fuse, self.kernel)
    }

    /// Compares everything: what was found about the top directory comes first, then what was found
    /// about each name in it.
    fn pass(&self, numbers: &Numbers) -> Result<(Vec<Name>, Vec<Findings>)> {
        let sides = self.sides()?;
        let comparer = self.comparer(&sides, Some(numbers));
        let (names, top) = comparer.top()?;
        Progress::add(&self.progress.total, names.len() as u64);
        let mut findings = vec![top];
        let pool = ThreadPoolBuilder::new().num_threads(self.options.threads.max(1));
        let pool = pool
            .build()
            .map_err(|why| Error::environment("start threads", why))?;
        let one = |name: &Name| {
            let found = comparer.object(name);
            Progress::add(&self.progress.done, 1);
            found
        };
        // Some objects take a thousand times as long as others.
        let found = || names.par_iter().with_max_len(1).map(one).collect();
        findings.extend::<Vec<_>>(pool.install(found));
        Ok((names, findings))
    }

    /// Replaces what was found about `changed` by what is found now.
    fn repeat(&self, names: &[Name], changed: &[usize], findings: &mut [Findings]) -> Result<()> {
        let sides = self.sides()?;
        let comparer = self.comparer(&sides, None);
        let (now, mut top) = comparer.top()?;
        for &index in changed {
            findings[index] = match index.checked_sub(1) {
                None => std::mem::take(&mut top),
                Some(name) => {
                    let name = &names[name].name;
                    match now.binary_search_by(|other| other.name.cmp(name)) {
                        Ok(at) => comparer.object(&now[at]),
                        // It is gone on both sides.
                        Err(_) => Findings::default(),
                    }
                }
            };
        }
        Ok(())
    }

    fn comparer<'a>(&'a self, sides: &'a Sides, numbers: Option<&'a Numbers>) -> Comparer<'a> {
        Comparer {
            sides,
            layers: self.layers,
            numbers,
            strict: self.options.strict,
            progress: self.progress,
        }
    }
}

/// A top directory that cannot be read leaves nothing to compare.
fn unreadable(path: &Path, why: rustix::io::Errno) -> Error {
    Error::on("read", path, why)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
