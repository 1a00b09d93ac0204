// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rows mean, in memory and without any code of the program: a store is a map of numbers to rows.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) hash: u8,
    pub(crate) size: u32,
    pub(crate) time: u32,
    pub(crate) deriver: Option<u32>,
    pub(crate) ultimate: bool,
    pub(crate) signatures: BTreeSet<u8>,
    pub(crate) ca: Option<u8>,
    pub(crate) references: BTreeSet<u32>,
    pub(crate) outputs: BTreeMap<String, u32>,
}

pub(crate) type Rows = BTreeMap<u32, Row>;

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    InUse,
    Cycle,
    NotValid,
}

/// One change, with all that it needs to be done twice.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Register(Vec<(u32, Row)>),
    Merge(Vec<(u32, Row)>),
    Delete(u32),
    CopyUp(Vec<u32>),
    Sign(u32, BTreeSet<u8>),
    /// In the lower.
    Grow(u32, Row),
    SignLower(u32, u8),
    Reopen,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) upper: Rows,
    pub(crate) lower: Rows,
}

impl Model {
    /// Does one change; what is refused changes nothing. Tells how many rows it was about.
    pub(crate) fn change(&mut self, change: &Change) -> Result<usize, Refused> {
        let mut next = self.clone();
        let done = next.unchecked(change)?;
        *self = next;
        Ok(done)
    }

    fn unchecked(&mut self, change: &Change) -> Result<usize, Refused> {
        match change {
            Change::Register(batch) => self.register(batch),
            Change::Merge(batch) => self.merge(batch),
            Change::Delete(number) => self.delete(*number),
            Change::CopyUp(numbers) => {
                let before = self.upper.len();
                for number in numbers {
                    if !self.upper.contains_key(number) && !self.lower.contains_key(number) {
                        return Err(Refused::NotValid);
                    }
                    self.copy(*number);
                }
                Ok(self.upper.len() - before)
            }
            Change::Sign(number, added) => {
                let row = self.upper.get_mut(number).ok_or(Refused::NotValid)?;
                row.signatures.extend(added);
                Ok(1)
            }
            Change::Grow(number, row) => {
                self.lower.entry(*number).or_insert_with(|| row.clone());
                Ok(0)
            }
            Change::SignLower(number, signature) => {
                if let Some(row) = self.lower.get_mut(number) {
                    row.signatures.insert(*signature);
                }
                Ok(0)
            }
            Change::Reopen => Ok(0),
        }
    }

    fn merge(&mut self, batch: &[(u32, Row)]) -> Result<usize, Refused> {
        let new: BTreeSet<u32> = batch.iter().map(|(number, _)| *number).collect();
        let named = batch.iter().flat_map(|(_, row)| row.references.iter());
        let others = named.filter(|other| !new.contains(other));
        let wanted: BTreeSet<u32> = new.iter().chain(others).copied().collect();
        for number in wanted {
            if self.lower.contains_key(&number) {
                self.copy(number);
            }
        }
        self.register(batch)
    }

    fn delete(&mut self, number: u32) -> Result<usize, Refused> {
        let mut rows = self.upper.iter();
        if rows.any(|(other, row)| *other != number && row.references.contains(&number)) {
            return Err(Refused::InUse);
        }
        Ok(usize::from(self.upper.remove(&number).is_some()))
    }

    fn copy(&mut self, number: u32) {
        let mut open = vec![number];
        while let Some(number) = open.pop() {
            if !self.upper.contains_key(&number) {
                let row = self.lower[&number].clone();
                open.extend(row.references.iter().filter(|other| **other != number));
                self.upper.insert(number, row);
            }
        }
    }

    fn register(&mut self, batch: &[(u32, Row)]) -> Result<usize, Refused> {
        if circular(batch) {
            return Err(Refused::Cycle);
        }
        for (number, new) in batch {
            let row = self.upper.entry(*number).or_insert_with(|| Row {
                references: BTreeSet::new(),
                ..new.clone()
            });
            (row.hash, row.size) = (new.hash, new.size);
            (row.ultimate, row.ca) = (new.ultimate, new.ca);
            row.signatures.clone_from(&new.signatures);
        }
        for (number, new) in batch {
            if new
                .references
                .iter()
                .any(|other| !self.upper.contains_key(other))
            {
                return Err(Refused::NotValid);
            }
            let row = self.upper.get_mut(number).unwrap();
            row.references.extend(&new.references);
        }
        Ok(batch.len())
    }
}

/// Whether some of the batch are left when those that need no other are taken away, again and again.
fn circular(batch: &[(u32, Row)]) -> bool {
    let mut left: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (number, row) in batch {
        let others = row.references.iter().filter(|other| *other != number);
        left.entry(*number).or_default().extend(others);
    }
    loop {
        let numbers: BTreeSet<u32> = left.keys().copied().collect();
        let before = left.len();
        left.retain(|_, others| others.iter().any(|other| numbers.contains(other)));
        if left.len() == before {
            return before > 0;
        }
    }
}
