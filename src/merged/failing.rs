// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lower that fails: a network that was away for a moment, a server that was started anew.
//!
//! Decides what is tried once more, and from where: from the top directory, by names, with no
//! descriptor of before. Invariant: what fails twice is reported as what it is; nothing that was
//! not seen is told to be absent.

use super::lookup::Looked;
use super::node::{Found, NodeId};
use super::{MergedFs, Notice, Outcome};
use crate::layer::{Errno, LayerId, may_pass};
use parking_lot::Mutex;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The same failure is not said again for this long.
const QUIET: Duration = Duration::from_secs(60);

/// What was last said about the lower.
pub(super) type Said = Mutex<Option<(Errno, Instant)>>;

impl MergedFs {
    /// Runs an operation on a node; if the lower fails in it, once more by path.
    pub(super) fn once_more<T>(
        &self,
        id: NodeId,
        mut operation: impl FnMut() -> Outcome<T>,
    ) -> Outcome<T> {
        match operation() {
            Err(errno) if may_pass(errno) && self.rests_on_lower(id) => {
                self.start_from_path(id);
                operation().inspect_err(|&errno| self.failed_twice(id, errno))
            }
            other => other,
        }
    }

    fn rests_on_lower(&self, id: NodeId) -> bool {
        self.table.with(id, |node| node.lower.is_some()) == Ok(true)
    }

    /// Forgets every descriptor on the way to a node in the lower, and opens the lower again if
    /// it is its filesystem that is dead.
    fn start_from_path(&self, id: NodeId) {
        if let Err(errno) = self.renew_lower() {
            self.say_that_it_fails(errno);
        }
        // Nothing of a way that leads nowhere is kept.
        for (_, _, node) in self.chain(id).ok().flatten().unwrap_or_default() {
            self.dirs.remove((node, LayerId::Lower));
            self.files.remove((node, LayerId::Lower));
        }
    }

    /// Opens the lower again if it is dead or was removed.
    pub(super) fn renew_lower(&self) -> Outcome<()> {
        if self.lower.renew()? {
            log::warn!("the lower store directory was dead and is opened again");
            self.dirs.remove_layer(LayerId::Lower);
            self.files.remove_layer(LayerId::Lower);
            self.hides_no_more();
            self.lower_was_renewed();
            self.renumber_top();
        }
        Ok(())
    }

    /// The top directory of the lower has another number now.
    fn renumber_top(&self) {
        let number = self.lower.stat(self.lower.root().as_fd());
        let renumbered = number.and_then(|stat| {
            self.table
                .with_mut(NodeId::ROOT, |node| node.lower = Some(stat.ino))
        });
        if let Err(errno) = renumbered {
            log::warn!("look at the lower store directory again: {errno}");
        }
    }

    fn failed_twice(&self, id: NodeId, errno: Errno) {
        self.say_that_it_fails(errno);
        if errno == Errno::STALE {
            // It is another object by now: whoever comes by its path is to find that.
            for (parent, name, _) in self.chain(id).ok().flatten().unwrap_or_default() {
                self.notify(Notice::Name { parent, name });
            }
        }
    }

    fn say_that_it_fails(&self, errno: Errno) {
        // Mostly an object that was replaced: the kernel looks again.
        if !may_pass(errno) || errno == Errno::STALE {
            return log::debug!("lower: {errno}");
        }
        let mut said = self.said_failing.lock();
        let news = said.is_none_or(|(last, when)| last != errno || when.elapsed() > QUIET);
        if news {
            *said = Some((errno, Instant::now()));
            log::warn!("the lower store directory fails: {errno}; what needs it fails as well");
        }
    }

    /// The answer to a lookup for which the lower had to be asked and failed: a directory of the
    /// upper that the kernel knows already is what it was. Nothing else is known.
    pub(super) fn still_known(&self, parent: NodeId, name: &[u8], errno: Errno) -> Outcome<Looked> {
        let unknown = Err(errno);
        if parent != NodeId::ROOT || !may_pass(errno) {
            return unknown;
        }
        let root = self.upper.root();
        let (Some(id), Some(stat)) = (self.tops.known(name), self.upper.probe(root.as_fd(), name)?)
        else {
            return unknown;
        };
        let found = self.table.with(id, |node| {
            let found = Found {
                stat,
                layer: LayerId::Upper,
                lower_dir: node.lower,
                merging: node.merging,
                settled: node.settled,
            };
            let same = node.is_at(parent, name) && node.held.is_none() && node.is(&found);
            same.then_some(found)
        });
        match found {
            Ok(Some(found)) => self.enter(parent, name, &found).map(Looked::Found),
            _ => unknown,
        }
    }
}
