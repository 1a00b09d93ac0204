// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a cold lookup costs: "at most two system calls per cold lookup (one where the upper cannot
//! have the name)", counted by strace.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::mount::MountGuard;
use crate::common::{asked, for_each_mode, trace};
use std::fs;

/// Returns what the driver asks of the layers while `path` is looked up.
fn calls(fx: &Fixture, m: &MountGuard, path: &str) -> Vec<String> {
    asked::during(fx, m, || drop(fs::symlink_metadata(m.path(path))))
}

for_each_mode!(
    /// Lookups in directories that are in use, of names that the kernel has not asked for before.
    system_calls_of_a_cold_lookup,
    [root],
    |fx| {
        if trace::directory().is_some() || fx.on_kernel() {
            // The driver has a tracer already, or there is none.
            return;
        }
        fx.lower().file("low/warm", "l").file("low/cold", "l").file("both/warm", "l");
        fx.lower().file("both/lower", "l");
        fx.upper().file("up/warm", "u").file("up/cold", "u").file("both/upper", "u");
        let m = fx.mount();
        for warm in ["low/warm", "up/warm", "both/warm"] {
            fs::symlink_metadata(m.path(warm)).must();
        }
        for (path, most) in [
            ("low/cold", 1),
            ("low/missing-in-lower", 1),
            ("up/cold", 1),
            ("up/missing-in-upper", 2),
            ("both/upper", 1),
            ("both/lower", 2),
            ("both/missing-in-both", 2),
        ] {
            let calls = calls(fx, &m, path);
            assert!(!calls.is_empty() && calls.len() <= most, "{path}: {calls:#?}");
        }
    }
);
