// SPDX-License-Identifier: MIT OR Apache-2.0
//! Specifications at random: few names, so that they collide; targets mostly what is there.
//!
//! Invariant: one seed is one specification.

use crate::model::layer::build;
use crate::model::{Model, Rules, Seen};
use crate::op::{Access, Given, Manner, Name, Op, Place, Side, Spec, Thing};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many descriptors there are.
pub(crate) const SLOTS: usize = 2;
/// The longest name that there may be.
pub(crate) const LONG: [u8; 255] = [b'n'; 255];
/// How deep a name that is not there yet may be.
const DEPTH: usize = 3;
/// Around nothing, a page, and what one request carries.
const SIZES: [u64; 9] = [0, 1, 5, 4095, 4096, 4097, 131_072, 1_048_576, 1_048_577];

/// What a strategy yields: an operation whose targets are still indexes.
#[derive(Debug, Clone, Copy)]
struct Raw {
    verb: Verb,
    target: Target,
    other: Target,
    number: u64,
    choice: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Mkdir,
    Symlink,
    Fifo,
    Device,
    Open,
    Read,
    Write,
    Close,
    Fsync,
    Truncate,
    Unlink,
    Rmdir,
    RenameNew,
    RenameOnto,
    Link,
    Chmod,
    SetTimes,
    ReadDir,
    Stat,
    Remount,
    HandOver,
    Add,
    Remove,
    Replace,
}

/// How often each verb comes.
const WEIGHTS: [(u32, Verb); 25] = [
    (6, Verb::Create),
    (6, Verb::Mkdir),
    (2, Verb::Symlink),
    (1, Verb::Fifo),
    (1, Verb::Device),
    (8, Verb::Open),
    (5, Verb::Read),
    (7, Verb::Write),
    (2, Verb::Close),
    (1, Verb::Fsync),
    (3, Verb::Truncate),
    (10, Verb::Unlink),
    (9, Verb::Rmdir),
    (9, Verb::RenameNew),
    (9, Verb::RenameOnto),
    (4, Verb::Link),
    (4, Verb::Chmod),
    (3, Verb::SetTimes),
    (4, Verb::ReadDir),
    (4, Verb::Stat),
    (1, Verb::Remount),
    (1, Verb::HandOver),
    (1, Verb::Add),
    (1, Verb::Remove),
    (1, Verb::Replace),
];

#[derive(Debug, Clone, Copy)]
struct Target {
    index: usize,
    name: usize,
    free: bool,
}

fn target() -> impl Strategy<Value = Target> {
    (any::<u16>(), any::<u16>(), 0..5_u8).prop_map(|(index, name, chance)| Target {
        index: index.into(),
        name: name.into(),
        free: chance == 0,
    })
}

fn raw() -> impl Strategy<Value = Raw> {
    let verbs = WEIGHTS.map(|(weight, verb)| (weight, Just(verb)));
    let verb = proptest::strategy::Union::new_weighted(verbs.to_vec());
    (verb, target(), target(), any::<u32>(), any::<u16>()).prop_map(
        |(verb, target, other, number, choice)| Raw {
            verb,
            target,
            other,
            number: number.into(),
            choice: choice.into(),
        },
    )
}

/// An object of a layer, as numbers: side, what, depth, names and size.
type RawGiven = (bool, usize, usize, [usize; DEPTH], usize);

fn raw_given() -> impl Strategy<Value = RawGiven> {
    (
        any::<bool>(),
        0..17_usize,
        1..=DEPTH,
        any::<[u8; DEPTH]>().prop_map(|names| names.map(usize::from)),
        0..SIZES.len(),
    )
}

/// Picks a name; three of them come often.
fn name(pick: usize) -> Name {
    match pick % 16 {
        14 => LONG.to_vec(),
        15 => vec![0xff, 0xfe],
        number => vec![b'a' + (number % 3) as u8],
    }
}

fn given((upper, what, depth, names, size): RawGiven) -> Given {
    let side = if upper { Side::Upper } else { Side::Lower };
    let mut place = Place(names[..depth].iter().map(|pick| name(*pick)).collect());
    // Big files are for the operations; here they would only cost time.
    let thing = match what {
        0..=4 => Thing::Dir,
        5..=9 => Thing::File(SIZES[size % 6]),
        10 | 11 => Thing::Link(Place(vec![name(names[DEPTH - 1])])),
        12 if upper => Thing::Opaque,
        12 => Thing::Fifo,
        13 | 14 if upper => Thing::Whiteout,
        13 | 14 => Thing::Dir,
        15 => Thing::Symlink,
        _ => {
            if names[0] % 8 == 0 {
                place.0[0] = b".links".to_vec();
            }
            Thing::File(5)
        }
    };
    Given { side, place, thing }
}

/// Lets most marks of the upper hide something, and puts them before what would be in their way.
fn hiding(raws: Vec<RawGiven>) -> Vec<Given> {
    let mut all: Vec<_> = raws.into_iter().map(|raw| (raw.3[0], given(raw))).collect();
    all.sort_by_key(|(_, one)| match (one.side, &one.thing) {
        (Side::Lower, _) => 0,
        (Side::Upper, Thing::Opaque) => 1,
        (Side::Upper, Thing::Whiteout) => 2,
        (Side::Upper, _) => 3,
    });
    let lower = all.iter().filter(|(_, one)| one.side == Side::Lower);
    let hidden: Vec<_> = lower.map(|(_, one)| one.place.clone()).collect();
    let filled: Vec<_> = hidden.iter().filter(|place| place.0.len() > 1).collect();
    for (pick, one) in &mut all {
        let stray = pick.is_multiple_of(16);
        match one.thing {
            Thing::Whiteout if !stray && !hidden.is_empty() => {
                one.place = hidden[*pick % hidden.len()].clone();
            }
            Thing::Opaque if !stray && !filled.is_empty() => {
                let inside = filled[*pick % filled.len()].split();
                one.place = inside.map(|(directory, _)| directory).unwrap_or_default();
            }
            _ => {}
        }
    }
    all.into_iter().map(|(_, one)| one).collect()
}

/// Something that is there, or (one time in five) may not be.
fn existing(model: &Model, target: Target) -> Place {
    let (all, _) = model.places();
    match target.free || all.is_empty() {
        true => fresh(model, target),
        false => all[target.index % all.len()].clone(),
    }
}

/// A name in a directory that is there; one time in four where a whiteout is.
fn fresh(model: &Model, target: Target) -> Place {
    let hidden = model.whiteouts();
    if target.name % 64 < 16 && !hidden.is_empty() {
        return hidden[target.index % hidden.len()].clone();
    }
    let (_, directories) = model.places();
    let shallow: Vec<_> = directories
        .iter()
        .filter(|place| place.0.len() < DEPTH)
        .collect();
    shallow[target.index % shallow.len()].join(&name(target.name))
}

fn directory(model: &Model, target: Target) -> Place {
    let (_, directories) = model.places();
    match directories.len() {
        1 => existing(model, target),
        count => directories[1 + target.index % (count - 1)].clone(),
    }
}

/// A directory; half of the time one of both layers, if there is one.
fn merged(model: &Model, target: Target) -> Place {
    let (_, mut directories) = model.places();
    directories.remove(0);
    directories.retain(|place| model.find(place).is_ok_and(Seen::is_merged));
    match target.name.is_multiple_of(2) && !directories.is_empty() {
        true => directories[target.index % directories.len()].clone(),
        false => directory(model, target),
    }
}

/// What is there; half of the time what is open, if anything is.
fn in_use(model: &Model, target: Target) -> Place {
    let open = model.open_places();
    match target.name.is_multiple_of(2) && !open.is_empty() {
        true => open[target.index % open.len()].clone(),
        false => existing(model, target),
    }
}

/// Looks for the targets in what the model holds now.
fn concrete(model: &Model, raw: Raw) -> Op {
    let Raw {
        verb,
        target,
        other,
        number,
        choice,
    } = raw;
    let size = SIZES[number as usize % SIZES.len()];
    let there = || existing(model, target);
    let manner = Manner::ALL[[0, 0, 1, 2][choice % 4]].0;
    match verb {
        Verb::Create => Op::Create(fresh(model, target)),
        Verb::Mkdir => Op::Mkdir(fresh(model, target)),
        Verb::Symlink => Op::Symlink(fresh(model, target)),
        Verb::Fifo => Op::Fifo(fresh(model, target)),
        Verb::Device => Op::Device(fresh(model, target)),
        Verb::Open | Verb::Read | Verb::Write | Verb::Close | Verb::Fsync => {
            on_descriptor(model, raw)
        }
        Verb::Truncate => Op::Truncate(there(), size),
        Verb::Unlink => Op::Unlink(in_use(model, target)),
        Verb::Rmdir => Op::Rmdir(merged(model, target)),
        Verb::RenameNew => Op::Rename(in_use(model, target), fresh(model, other), manner),
        Verb::RenameOnto => Op::Rename(there(), existing(model, other), manner),
        Verb::Link => Op::Link(there(), fresh(model, other)),
        Verb::Chmod => Op::Chmod(there(), [0o755, 0o700, 0o750, 0o711][choice % 4]),
        Verb::SetTimes => Op::SetTimes(there(), 5000 + (number % 1000) as i64),
        Verb::ReadDir => Op::ReadDir(directory(model, target)),
        Verb::Stat => Op::Stat(there()),
        Verb::Remount => Op::Remount,
        Verb::HandOver => Op::HandOver,
        Verb::Add | Verb::Remove | Verb::Replace => outside(raw),
    }
}

/// What is done with open files.
fn on_descriptor(model: &Model, raw: Raw) -> Op {
    let Raw { number, choice, .. } = raw;
    let (slot, size) = (choice % SLOTS, SIZES[number as usize % SIZES.len()]);
    let offset = SIZES[choice / SLOTS % SIZES.len()];
    let access = Access::ALL[number as usize % Access::ALL.len()].0;
    match raw.verb {
        Verb::Open => Op::Open(slot, existing(model, raw.target), access),
        Verb::Read => Op::Read {
            slot,
            offset,
            length: size,
        },
        Verb::Write => Op::Write {
            slot,
            offset,
            length: size,
            salt: number % 97,
        },
        Verb::Fsync => Op::Fsync(slot),
        _ => Op::Close(slot),
    }
}

/// What happens behind the mount.
fn outside(raw: Raw) -> Op {
    let top = Place(vec![name(raw.target.name)]);
    match raw.verb {
        Verb::Add => Op::OutsideAddLower(top, raw.choice.is_multiple_of(2)),
        Verb::Remove => Op::OutsideRemoveDuplicate(top),
        _ => Op::OutsideReplaceLower(top),
    }
}

/// Returns the specification of `seed`, with `length` operations.
pub(crate) fn spec(seed: u64, length: usize) -> Spec {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let layers = proptest::collection::vec(raw_given(), 4..24);
    let raws = proptest::collection::vec(raw(), length);
    let (layers, raws) = (layers, raws)
        .new_tree(&mut runner)
        .expect("nothing is filtered")
        .current();
    let mut spec = Spec {
        given: build(&hiding(layers)).2,
        ops: Vec::new(),
    };
    let mut model = Model::new(Rules::Here, &spec, (0, 0));
    for raw in raws {
        let op = concrete(&model, raw);
        model.apply(&op);
        spec.ops.push(op);
    }
    spec
}
