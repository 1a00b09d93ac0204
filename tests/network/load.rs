// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills and restarts what serves the lower, again and again, while the merged view is in use.

use super::readers::{Held, Seen, Stop, not_right};
use super::world::{is_whole, status};
use crate::common::check::{Must, within};
use crate::common::fixture::Fixture;
use crate::common::mount::MountGuard;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How often the lower fails and comes back.
const ROUNDS: usize = 10;
const READERS: usize = 4;
/// Within what time an outage must be noticed, and how long one lasts that need not be.
const FELT: Duration = Duration::from_secs(5);
const UNFELT: Duration = Duration::from_millis(700);
/// "Everything readable again within a few seconds."
const RECOVERY: Duration = Duration::from_secs(8);

/// One way to fail and come back.
pub(crate) struct Outage<'a> {
    /// Makes the lower fail.
    pub(crate) down: &'a mut dyn FnMut(),
    /// Brings it back.
    pub(crate) up: &'a mut dyn FnMut(),
    /// Whether users must have noticed.
    pub(crate) felt: bool,
}

/// Lets readers and writers use the view during several outages, and requires that each of them is
/// survived.
pub(crate) fn under_load(fx: &Fixture, view: &MountGuard, outage: &mut Outage<'_>) {
    let seen = Seen::default();
    let held = Held::open(&view.path("")).must();
    held.works().must();
    let path = &view.path("");
    assert_eq!(not_right(path), None, "before");
    thread::scope(|scope| {
        let _stop = Stop(&seen);
        for reader in 0..READERS {
            let seen = &seen;
            scope.spawn(move || seen.read_on(path, reader));
        }
        scope.spawn(|| seen.write_on(path));
        scope.spawn(|| held.use_on(&seen));
        for round in 0..ROUNDS {
            one_outage(round, view, &seen, &held, outage);
        }
    });
    seen.check();
    is_whole(fx, view);
}

fn one_outage(round: usize, view: &MountGuard, seen: &Seen, held: &Held, outage: &mut Outage<'_>) {
    let failed = seen.failed.load(Ordering::Relaxed);
    (outage.down)();
    // Long enough for every reader to meet it.
    let met = || seen.failed.load(Ordering::Relaxed) > failed + 5;
    let felt = within(if outage.felt { FELT } else { UNFELT }, met);
    assert!(felt || !outage.felt, "round {round}: nobody noticed");
    if outage.felt {
        assert_eq!(status(view)["state"], "alive", "round {round}");
    }
    (outage.up)();
    let mut left = None;
    let recovered = within(RECOVERY, || {
        left = not_right(&view.path(""));
        left.is_none()
    });
    assert!(
        recovered,
        "round {round}: not right after {RECOVERY:?}: {left:?}"
    );
    let mut why = None;
    let works = within(RECOVERY, || {
        why = held.works().err();
        why.is_none()
    });
    assert!(works, "round {round}: what was open does not work: {why:?}");
    let right = seen.right.load(Ordering::Relaxed);
    assert!(within(RECOVERY, || seen.right.load(Ordering::Relaxed)
        > right + 200));
}
