// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of objects whose numbers do not fit together, found by a second walk.

use super::meet::ids;
use super::numbers::{Id, Suspects};
use super::report::{Findings, What};
use super::side::{Both, Sides, Value, kind_of};
use super::walk::{Meeting, Name, Visit, walk};
use hashbrown::HashMap;
use rustix::fs::FileType;
use rustix::io::Errno;

/// Shown of the other names of an object.
const SHOWN: usize = 3;

/// Returns what is different about the relations of the suspects' names.
pub(super) fn differences(sides: &Sides, names: &[Name], suspects: &Suspects) -> Findings {
    let mut collector = Collector {
        suspects,
        found: Vec::new(),
    };
    for name in names {
        walk(sides, &name.name, None, &mut collector);
    }
    let mut groups: Both<HashMap<Id, Vec<usize>>> = Both::default();
    for (index, (_, fuse, kernel)) in collector.found.iter().enumerate() {
        groups.fuse.entry(*fuse).or_default().push(index);
        if let Some(kernel) = kernel {
            groups.kernel.entry(*kernel).or_default().push(index);
        }
    }
    let mut findings = Findings::default();
    for (index, (path, fuse, kernel)) in collector.found.iter().enumerate() {
        let alone = vec![index];
        let fuse = groups.fuse.get(fuse).unwrap_or(&alone);
        let kernel = kernel.and_then(|kernel| groups.kernel.get(&kernel));
        let kernel = kernel.unwrap_or(&alone);
        if fuse != kernel {
            let told = |group: &[usize]| others(group, index, &collector.found);
            findings.differs(path, What::HardLinks, None, told(fuse), told(kernel));
        }
    }
    findings
}

/// One name, and the object it stands for on both sides.
type Found = (Vec<u8>, Id, Option<Id>);

/// Says which names stand for the same object.
fn others(group: &[usize], own: usize, found: &[Found]) -> Value {
    let other: Vec<_> = group.iter().filter(|index| **index != own).collect();
    if other.is_empty() {
        return Value::is("an object of its own");
    }
    let shown: Vec<_> = other
        .iter()
        .take(SHOWN)
        .map(|index| found[**index].0.escape_ascii().to_string())
        .collect();
    let more = match other.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Value::is(format!("the same as {}{more}", shown.join(", ")))
}

struct Collector<'a> {
    suspects: &'a Suspects,
    found: Vec<Found>,
}

impl Visit for Collector<'_> {
    fn meet(&mut self, meeting: &Meeting<'_>) -> bool {
        let stats = meeting.at.map(super::side::At::stat);
        let (Ok(fuse), Ok(kernel)) = (&stats.fuse, &stats.kernel) else {
            return false;
        };
        let (fuse_id, kernel_id) = ids(fuse, kernel);
        let suspect = self.suspects.0.fuse.contains(&fuse_id)
            || kernel_id.is_some_and(|id| self.suspects.0.kernel.contains(&id));
        if suspect {
            self.found.push((meeting.path.to_vec(), fuse_id, kernel_id));
        }
        [fuse, kernel].map(kind_of) == [FileType::Directory; 2]
    }

    /// The first walk has told it.
    fn unlisted(&mut self, _: &[u8], _: Both<Option<Errno>>) {}
}
