// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generated sequences of changes, done to databases and to the model: same answers, same rows.

use crate::model::{Change, Model, Refused, Row, Rows};
use crate::place::{local, name, scratch, upper};
use overstore::error::{Error, Result};
use overstore::metadata::{Registration, Source, Upper, is_in_use};
use overstore::store::{
    Algorithm, ContentAddress, Hash, Method, ObjectName, Outputs, PathInfo, Sha256,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How many sequences, each of its own seed.
const SEQUENCES: u64 = 1000;
const CHANGES: usize = 14;
/// How many objects there may be: few, so that changes meet.
const OBJECTS: u32 = 14;
/// Begins at another seed, to see one again.
const SEED: &str = "OVERSTORE_SEED";

/// Numbers from a seed, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(4)).unwrap()
    }

    fn object(&mut self) -> u32 {
        self.below(OBJECTS)
    }

    fn some<T: Ord>(&mut self, most: u32, mut one: impl FnMut(&mut Random) -> T) -> BTreeSet<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    /// A row whose references are mostly among `known`.
    fn row(&mut self, number: u32, known: &[u32]) -> Row {
        let one = |random: &mut Random| match known {
            [] => number,
            _ if random.below(12) == 0 => random.object(),
            known => known[random.below(u32::try_from(known.len()).unwrap()) as usize],
        };
        let mut row = Row {
            hash: self.byte(),
            size: self.below(3),
            time: 1 + self.below(5),
            deriver: (self.below(2) == 0).then(|| self.object()),
            ultimate: self.below(2) == 0,
            signatures: self.some(2, Random::byte),
            ca: (self.below(3) == 0).then(|| self.byte()),
            references: self.some(3, one),
            ..Row::default()
        };
        if number.is_multiple_of(5) {
            let outputs = self.some(2, Random::object).into_iter();
            row.outputs = outputs
                .map(|output| (format!("o{output}"), output))
                .collect();
        }
        row
    }

    fn batch(&mut self, model: &Model) -> Vec<(u32, Row)> {
        let numbers: Vec<u32> = (0..=self.below(3)).map(|_| self.object()).collect();
        let mut known: Vec<u32> = model.upper.keys().copied().collect();
        if self.below(2) == 0 {
            known.extend(model.lower.keys());
        }
        if self.below(3) == 0 {
            known.extend(&numbers);
        }
        let one = |number: &u32| (*number, self.row(*number, &known));
        numbers.iter().map(one).collect()
    }

    fn change(&mut self, model: &Model) -> Change {
        match self.below(20) {
            0..=4 => Change::Register(self.batch(model)),
            5..=8 => Change::Merge(self.batch(model)),
            9..=11 => Change::Delete(self.object()),
            12..=13 => {
                let numbers = self.some(3, Random::object).into_iter();
                Change::CopyUp(numbers.collect())
            }
            14 => Change::Sign(self.object(), self.some(2, Random::byte)),
            15 => Change::SignLower(self.object(), self.byte()),
            16 => Change::Reopen,
            _ => {
                let number = self.object();
                let known: Vec<u32> = model.lower.keys().copied().collect();
                let mut row = self.row(number, &known);
                // The lower is whole by itself.
                row.references
                    .retain(|other| *other == number || known.contains(other));
                Change::Grow(number, row)
            }
        }
    }
}

fn names<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> BTreeSet<ObjectName> {
    numbers.into_iter().copied().map(name).collect()
}

fn signatures(numbers: &BTreeSet<u8>) -> BTreeSet<String> {
    numbers
        .iter()
        .map(|number| format!("key{number}:AA=="))
        .collect()
}

fn outputs(row: &Row) -> Outputs {
    let outputs = row.outputs.iter();
    outputs
        .map(|(id, output)| (id.clone(), name(*output)))
        .collect()
}

fn info(number: u32, row: &Row) -> PathInfo {
    PathInfo {
        name: name(number),
        nar_hash: Sha256::of(&[row.hash]),
        nar_size: u64::from(row.size),
        references: names(&row.references),
        deriver: row.deriver.map(name),
        registration_time: i64::from(row.time),
        ultimate: row.ultimate,
        signatures: signatures(&row.signatures),
        ca: row.ca.map(|byte| ContentAddress {
            method: Method::Nar,
            hash: Hash::of(Algorithm::Sha256, &[byte]),
        }),
    }
}

fn registrations(batch: &[(u32, Row)]) -> Vec<Registration> {
    let one = |(number, row): &(u32, Row)| Registration {
        info: info(*number, row),
        outputs: outputs(row),
    };
    batch.iter().map(one).collect()
}

fn refused(error: Error) -> Refused {
    let text = error.to_string();
    match () {
        () if is_in_use(&error) => Refused::InUse,
        () if text.contains("closes a cycle") => Refused::Cycle,
        () if text.contains("not valid") || text.contains("valid neither") => Refused::NotValid,
        () => panic!("{text}"),
    }
}

struct Pair {
    states: [PathBuf; 2],
    upper: Upper,
    lower: Upper,
}

impl Pair {
    fn new(scratch: &Path) -> Pair {
        let states = ["upper", "lower"].map(|name| scratch.join(name));
        for state in &states {
            // The ballast for a full disk would be most of the work.
            std::fs::create_dir_all(state.join("db")).unwrap();
            std::fs::write(state.join("db/reserved"), "").unwrap();
        }
        let [upper, lower] = [&states[0], &states[1]].map(|state| upper(state));
        Pair {
            states,
            upper,
            lower,
        }
    }

    fn change(&mut self, change: &Change) -> Result<usize> {
        let lower = &self.lower;
        match change {
            Change::Register(batch) => {
                let batch = registrations(batch);
                self.upper.write(|change| change.register(&batch))?;
                Ok(batch.len())
            }
            Change::Merge(batch) => {
                let batch = registrations(batch);
                self.upper
                    .write(|change| change.register_merging(&batch, lower))?;
                Ok(batch.len())
            }
            Change::Delete(number) => {
                let deleted = self.upper.write(|change| change.delete(&name(*number)))?;
                Ok(usize::from(deleted))
            }
            Change::CopyUp(numbers) => {
                let names = names(numbers);
                self.upper.write(|change| change.copy_up(&names, lower))
            }
            Change::Sign(number, added) => {
                let (name, added) = (name(*number), signatures(added));
                self.upper
                    .write(|change| change.add_signatures(&name, &added))?;
                Ok(1)
            }
            Change::Grow(..) | Change::SignLower(..) => self.change_lower(change),
            Change::Reopen => {
                self.upper = upper(&self.states[0]);
                self.lower = upper(&self.states[1]);
                Ok(0)
            }
        }
    }

    fn change_lower(&mut self, change: &Change) -> Result<usize> {
        match change {
            Change::Grow(number, row) => {
                let one = registrations(&[(*number, row.clone())]);
                self.lower
                    .write(|change| match change.is_valid(&name(*number))? {
                        true => Ok(0),
                        false => change.register(&one).map(|()| 0),
                    })
            }
            Change::SignLower(number, signature) => {
                let (name, added) = (name(*number), signatures(&[*signature].into()));
                self.lower.write(|change| match change.is_valid(&name)? {
                    true => change.add_signatures(&name, &added).map(|()| 0),
                    false => Ok(0),
                })
            }
            _ => Ok(0),
        }
    }
}

/// Compares one object, in every question that there is.
fn compare(rows: &Rows, source: &dyn Source, number: u32) {
    let asked = name(number);
    let row = rows.get(&number);
    assert_eq!(
        source.path_info(&asked).unwrap(),
        row.map(|row| info(number, row))
    );
    assert_eq!(source.is_valid(&asked).unwrap(), row.is_some());
    let found = source.with_hash_part(asked.hash_part()).unwrap();
    assert_eq!(found, row.map(|_| asked.clone()));
    let referrers = rows
        .iter()
        .filter(|(_, row)| row.references.contains(&number));
    let referrers = names(referrers.map(|(other, _)| other));
    assert_eq!(source.referrers(&asked).unwrap(), referrers);
    let derivers = rows
        .iter()
        .filter(|(_, row)| row.outputs.values().any(|one| *one == number));
    let derivers = names(derivers.map(|(other, _)| other));
    assert_eq!(source.valid_derivers(&asked).unwrap(), derivers);
    assert_eq!(
        source.outputs(&asked).unwrap(),
        row.map(outputs).unwrap_or_default()
    );
}

/// Returns how often something was done, and how often it was refused.
fn run(seed: u64) -> [usize; 2] {
    let scratch = scratch();
    let mut pair = Pair::new(scratch.path());
    let (mut model, mut random) = (Model::default(), Random(seed));
    let mut counts = [0; 2];
    for _ in 0..CHANGES {
        let change = random.change(&model);
        let expected = model.change(&change);
        let found = pair.change(&change).map_err(refused);
        assert_eq!(found, expected, "{change:?} after {model:?}");
        counts[usize::from(expected.is_err())] += 1;
        assert_eq!(
            pair.upper.all_valid().unwrap(),
            names(model.upper.keys()),
            "{change:?}"
        );
        compare(&model.upper, &pair.upper, random.object());
    }
    let states = pair.states.clone();
    drop(pair);
    for (rows, state) in [(&model.upper, &states[0]), (&model.lower, &states[1])] {
        let source = local(state);
        (0..OBJECTS).for_each(|number| compare(rows, &source, number));
        source.finish().unwrap();
    }
    counts
}

/// Tells the seed when a sequence fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run with {SEED}={} to begin with this sequence", self.0);
        }
    }
}

#[test]
fn databases_are_what_the_model_says() {
    let first = std::env::var(SEED).map_or(0, |seed| seed.parse().unwrap());
    let mut counts = [0; 2];
    for seed in first..first + SEQUENCES {
        let told = Told(seed);
        let [done, refused] = run(seed);
        counts = [counts[0] + done, counts[1] + refused];
        drop(told);
    }
    // A generator that is mostly refused, or never, tells nothing.
    let [done, refused] = counts;
    println!("{done} changes done, {refused} refused");
    assert!(
        refused > 500 && done > 2 * refused,
        "{done} done, {refused} refused"
    );
}
