// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an object is by what is in it: the hash and size of its archive, and what it refers to.
//!
//! Invariant: it is read once, and nothing of it is changed.

use super::add::Watched;
use crate::error::Result;
use crate::nar::{Fan, NarHasher, Place, Scanner, Writer, tell};
use crate::roots::Interrupt;
use crate::store::{ObjectName, PathInfo};

/// Reads the object `name` at `place`. Its references are those of the scanner's candidates whose
/// hash part is in it. `what` is being done with it.
pub(super) fn scan(
    place: &Place<'_>,
    name: &ObjectName,
    scanner: Scanner,
    interrupt: &Interrupt,
    what: &str,
) -> Result<PathInfo> {
    let mut writer = Writer::new(Fan(NarHasher::new(), scanner), what)?;
    let mut watched = Watched::new(&mut writer, interrupt, what);
    tell(place, &mut watched)?;
    let Fan(hasher, scanner) = writer.finish()?;
    let (hash, size) = hasher.finish();
    let mut info = PathInfo::new(name.clone(), hash, size);
    info.references = scanner.finish();
    Ok(info)
}
