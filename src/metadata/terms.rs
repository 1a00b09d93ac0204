// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long other processes are waited for that have a database to themselves.
//!
//! Invariant: a wait that lasts is told of once, with the file that it is for, and ends when it is
//! interrupted; what failed because of that says so, and is not taken for a database that stays locked.

use crate::error::Error;
use crate::wait::{Interrupt, NOTICE, nap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LONGEST_PAUSE_MS: u64 = 100;

/// How long, and until when.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) patience: Duration,
    pub(super) interrupt: Interrupt,
}

impl Terms {
    /// Waits for as long as `patience`, but ends with `interrupt`.
    pub(super) fn new(patience: Duration, interrupt: &Interrupt) -> Terms {
        Terms {
            patience,
            interrupt: interrupt.clone(),
        }
    }

    /// Begins a wait for the database `path`.
    pub(super) fn turn(&self, path: &Path) -> Turn {
        Turn {
            terms: self.clone(),
            path: path.to_owned(),
            since: Instant::now(),
            tries: 0,
            told: false,
        }
    }

    /// The error of what ended early: `None` unless it was interrupted.
    pub(super) fn interrupted(&self, path: &Path) -> Option<Error> {
        let what = format!("wait for the database {}", path.display());
        self.interrupt.check(&what).err()
    }
}

/// One wait after the other for the same database.
#[derive(Debug)]
pub(super) struct Turn {
    terms: Terms,
    path: PathBuf,
    since: Instant,
    tries: u64,
    told: bool,
}

impl Turn {
    /// Begins anew.
    pub(super) fn again(&mut self) {
        (self.since, self.tries, self.told) = (Instant::now(), 0, false);
    }

    /// Lets a little time pass, more each time; answers false when patience is at its end.
    pub(super) fn pause(&mut self) -> bool {
        let waited = self.since.elapsed();
        if self.terms.interrupt.is_set() || waited >= self.terms.patience {
            return false;
        }
        if !self.told && waited >= NOTICE {
            self.told = true;
            log::warn!(
                "waiting for the database {}, held by another process (for up to {})...",
                self.path.display(),
                spelled(self.terms.patience)
            );
        }
        self.tries += 1;
        let pause = Duration::from_millis(self.tries.min(LONGEST_PAUSE_MS));
        nap(pause.min(self.terms.patience.saturating_sub(waited)));
        !self.terms.interrupt.is_set()
    }
}

fn spelled(time: Duration) -> String {
    match time.as_secs() {
        3600 => "an hour".to_owned(),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn patience_ends() {
        let short = Terms::new(Duration::from_millis(30), &Interrupt::never());
        let mut turn = short.turn(Path::new("/db"));
        let begun = Instant::now();
        assert!((0..1000).any(|_| !turn.pause()));
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert_eq!(short.interrupted(Path::new("/db")), None);
        turn.again();
        assert!(turn.pause());
    }

    #[test]
    fn an_interrupt_ends_it() {
        let flag = Arc::new(AtomicBool::new(false));
        let long = Terms::new(
            Duration::from_secs(3600),
            &Interrupt::when(Arc::clone(&flag)),
        );
        let mut turn = long.turn(Path::new("/db"));
        assert!(turn.pause());
        flag.store(true, Ordering::Relaxed);
        assert!(!turn.pause());
        let error = long.interrupted(Path::new("/db")).unwrap();
        let text = "wait for the database /db: interrupted";
        assert_eq!(
            (error.to_string().as_str(), error.kind().exit_code()),
            (text, 3)
        );
    }
}
