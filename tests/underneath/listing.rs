// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names come and go while a listing of the top is being read.

use crate::common::check::Must;
use crate::look::{Names, raw_names};
use crate::promise::expect;
use crate::quiet::event;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Names that are there all the time; a call of a few hundred bytes brings a part of them.
const NAMES: usize = 600;
const PART: usize = 512;

event!(
    /// A stream that is half read when a name comes and another goes: nothing is repeated and
    /// nothing missed that was there all the time, and after rewinding the new name is there. The
    /// first stream fills the kernel's copy of the listing, the second reads from it.
    while_a_listing_is_read,
    |fx, told| {
        let steady: BTreeSet<String> = (0..NAMES).map(|number| format!("steady{number}")).collect();
        for (number, name) in steady.iter().enumerate() {
            match number % 2 {
                0 => fx.lower().file(name, ""),
                _ => fx.upper().file(name, ""),
            };
        }
        for tag in crate::promise::TAGS {
            fx.lower().file(format!("{tag}.goes"), "");
        }
        let v = told.mount(fx);
        let streams = RefCell::new(BTreeMap::new());
        let change = |tag: &str| {
            let stream = Names::open(&v.path(""), PART);
            let got = stream.some().expect("the directory is not empty");
            assert!(got.len() < NAMES / 4, "{} names at once", got.len());
            fs::File::create(fx.lower().path(format!("{tag}.comes"))).must();
            fs::remove_file(fx.lower().path(format!("{tag}.goes"))).must();
            streams.borrow_mut().insert(tag.to_owned(), (stream, Some(got)));
        };
        let seen = |tag: &str| {
            let mut streams = streams.borrow_mut();
            let (stream, got) = streams.get_mut(tag).expect("it was opened");
            if let Some(mut got) = got.take() {
                got.extend(stream.rest());
                let distinct: BTreeSet<_> = got.iter().cloned().collect();
                assert_eq!(distinct.len(), got.len(), "{tag}: repeated");
                let missed: Vec<_> = steady.difference(&distinct).collect();
                assert!(missed.is_empty(), "{tag}: missed {missed:?}");
            }
            stream.rewind();
            for names in [stream.rest(), raw_names(&v.path(""))] {
                let has = |name: &str| names.iter().filter(|listed| **listed == format!("{tag}.{name}")).count();
                expect((has("comes"), has("goes")) == (1, 0), || {
                    format!("new name {} times, old one {} times", has("comes"), has("goes"))
                })?;
                let steady = names.iter().filter(|name| steady.contains(*name)).count();
                expect(steady == NAMES, || format!("{steady} of the others"))?;
            }
            Ok(())
        };
        v.both_ways(change, seen);
    }
);
