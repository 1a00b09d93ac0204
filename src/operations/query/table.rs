// SPDX-License-Identifier: MIT OR Apache-2.0
//! Path infos as lines or JSON, as `nix path-info` prints them.

use super::Query;
use crate::error::Result;
use crate::store::json::{self, Entry, Format};
use crate::store::{ObjectName, PathInfo};
use std::collections::BTreeSet;

/// What is told of each object besides its path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// The size of its NAR.
    pub size: bool,
    /// The size of its closure.
    pub closure_size: bool,
    /// Signatures, and what else speaks for it.
    pub signatures: bool,
    /// Sizes are in units that are easy to read.
    pub readable: bool,
}

const STEP: f64 = 1024.0;
const UNITS: [char; 8] = ['K', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];

impl Query<'_> {
    /// Returns one line for each of `names`, in the order of [`Query::sorted`].
    pub fn table(&mut self, names: &BTreeSet<ObjectName>, columns: Columns) -> Result<String> {
        let mut text = String::new();
        let sorted = self.sorted(names)?;
        let paths: Vec<String> = sorted.iter().map(|name| self.shown(name)).collect();
        let wide = columns.size || columns.closure_size || columns.signatures;
        let width = paths.iter().map(|path| path.chars().count()).max();
        let width = width.filter(|_| wide).unwrap_or_default();
        for (name, path) in sorted.iter().zip(paths) {
            let info = self.info(name)?;
            text.push_str(&format!("{path:<width$}"));
            if columns.size {
                text.push_str(&size(info.nar_size, columns.readable));
            }
            if columns.closure_size {
                text.push_str(&size(self.closure_size(name)?, columns.readable));
            }
            if columns.signatures {
                text.push('\t');
                text.push_str(&vouched(&info));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Returns the JSON of `names`, without a line break; what is not valid is `null`.
    pub fn json(
        &mut self,
        names: &BTreeSet<ObjectName>,
        format: Format,
        closure_sizes: bool,
    ) -> Result<String> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let info = self.find(name)?;
            let closure_size = match &info {
                Some(_) if closure_sizes => Some(self.closure_size(name)?),
                _ => None,
            };
            found.push((name, info, closure_size));
        }
        let entries = found.iter().map(|(name, info, closure_size)| Entry {
            name,
            info: info.as_deref(),
            closure_size: *closure_size,
        });
        Ok(json::document(self.dir, entries, format).to_string())
    }
}

/// One column with a size.
fn size(bytes: u64, readable: bool) -> String {
    if !readable {
        return format!("\t{bytes:>11}");
    }
    let (amount, unit) = in_units(bytes);
    format!("\t{amount:>6.1} {unit}iB")
}

/// A size in the greatest unit of which there is more than one; there is none below KiB.
fn in_units(bytes: u64) -> (f64, char) {
    let mut units = UNITS.into_iter();
    let mut unit = 'K';
    #[expect(
        clippy::cast_precision_loss,
        reason = "one digit behind the point is shown"
    )]
    let mut amount = bytes as f64 / STEP;
    units.next();
    while amount > STEP
        && let Some(next) = units.next()
    {
        (amount, unit) = (amount / STEP, next);
    }
    (amount, unit)
}

/// What speaks for an object: that it was built here, its content address, its signatures.
fn vouched(info: &PathInfo) -> String {
    let ultimate = info.ultimate.then(|| "ultimate".to_owned());
    let address = info.ca.as_ref().map(|address| format!("ca:{address}"));
    let signatures = info.signatures.iter().cloned();
    let all: Vec<String> = ultimate
        .into_iter()
        .chain(address)
        .chain(signatures)
        .collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_nix() {
        for (bytes, expected) in [
            (0, "\t   0.0 KiB"),
            (160, "\t   0.2 KiB"),
            (1024 * 1024, "\t1024.0 KiB"),
            (1024 * 1024 + 1, "\t   1.0 MiB"),
            (5 << 40, "\t   5.0 TiB"),
            (u64::MAX, "\t  16.0 EiB"),
        ] {
            assert_eq!(size(bytes, true), expected, "{bytes}");
        }
        assert_eq!(size(160, false), "\t        160");
    }
}
