// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names are to be looked at again: those whose layers changed while they were compared.

use super::layers::Layers;
use super::report::Findings;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Filesystems take the time from a clock that may be behind by a tick, or on another machine. To
/// look again at what changed shortly before costs little.
const SLACK: Duration = Duration::from_secs(2);

/// How often a name that goes on changing is looked at again.
pub(super) const ROUNDS: usize = 5;

/// When the names were last looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again(Duration);

impl Again {
    pub(super) fn start() -> Again {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Again(now.unwrap_or_default().saturating_sub(SLACK))
    }

    /// Returns which of `findings` have a difference that a change may explain.
    pub(super) fn changed(self, layers: &Layers, findings: &[Findings]) -> Vec<usize> {
        let changed = |found: &Findings| {
            let mut paths = found.differences.iter().map(|difference| &difference.path);
            paths.any(|path| layers.changed_since(path, self.0))
        };
        let all = findings.iter().enumerate();
        all.filter(|(_, found)| changed(found))
            .map(|(index, _)| index)
            .collect()
    }
}
