// SPDX-License-Identifier: MIT OR Apache-2.0
//! Very many names at once, and one name among very many.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::common::mount::{MountGuard, run};
use crate::look::{exactly, file, listed, names, nothing, raw_names, same};
use crate::promise::{TAGS, Told, View};
use crate::quiet::{alone_in_each_mode, event};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const BURST: usize = 10_000;
/// One name in so many is looked at while the time is taken.
const SAMPLE: usize = 500;

event!(
    /// A burst of names, every second of which was looked for in vain: the last of them and a
    /// sample show in time, then every one, and the listing is complete.
    a_burst_of_names,
    |fx, told| {
        fx.lower().file("old", "");
        let v = told.mount(fx);
        let name = |tag: &str, number: usize| format!("{tag}.{number}");
        let show = |tag: &str, step: usize| {
            let numbers = (0..BURST).step_by(step).chain([BURST - 1]);
            let mut each = numbers.map(|number| name(tag, number));
            each.try_for_each(|name| same(&v.path(&name), &fx.lower().path(&name)))
        };
        let change = |tag: &str| {
            for number in (0..BURST).step_by(2) {
                nothing(&v.path(name(tag, number))).expect("not there yet");
            }
            listed(&v.path(""), &name(tag, 0), false).expect("not there yet");
            for number in 0..BURST {
                fs::File::create(fx.lower().path(name(tag, number))).must();
            }
        };
        v.both_ways(change, |tag| show(tag, SAMPLE));
        for tag in TAGS {
            show(tag, 1).expect("all of them");
        }
        let all = TAGS.iter().flat_map(|tag| (0..BURST).map(|number| name(tag, number)));
        let all: BTreeSet<_> = all.chain(["old".to_owned()]).collect();
        exactly(raw_names(&v.path("")), &all).expect("the listing, by getdents alone");
        exactly(names(&v.path("")), &all).expect("the listing, by readdir");
    }
);

const MILLION: usize = 1_000_000;
/// Names of one file; filesystems allow 65000 and more.
const LINKS: usize = 50_000;

/// Makes a lower of a million names, links to a few files because that is quick.
fn million(lower: &std::path::Path) {
    for number in 0..MILLION {
        let name = |number: usize| lower.join(format!("n{number}"));
        match number % LINKS {
            0 => fs::write(name(number), "one").must(),
            _ => fs::hard_link(name(number - number % LINKS), name(number)).must(),
        }
    }
}

/// Mounts a view over `lower`, of which no manifest could be taken in reasonable time.
fn mount(fx: &Fixture, told: Told, lower: &std::path::Path) -> View {
    let (upper, merged) = (fx.upper().path(""), fx.scratch("merged"));
    fs::create_dir_all(&merged).must();
    let layers = format!("lowerdir={},upperdir={}", lower.display(), upper.display());
    let layers = layers.trim_end_matches('/');
    told.view(layers, |layers| {
        MountGuard::driver(fx.mode(), &merged, layers, None)
    })
}

alone_in_each_mode!(
    /// An event among a million names is seen in time, and the view of them works: mounting,
    /// lookups, and a listing of them all.
    one_among_a_million,
    |fx| {
        let lower = fx.scratch("million");
        fs::create_dir_all(&lower).must();
        if fx.mode().may_mount() {
            // Quicker to fill and to empty than a disk.
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&lower));
        }
        million(&lower);
        for told in [Told::AtOnce, Told::Never] {
            let v = mount(fx, told, &lower);
            file(&v.path("n999999"), "one").expect("the last one");
            let seen = |tag: &str| file(&v.path(format!("{tag}{told:?}")), "new");
            let change = |tag: &str| {
                nothing(&v.path(format!("{tag}{told:?}"))).expect("not there yet");
                fs::write(lower.join(format!("{tag}{told:?}")), "new").must();
            };
            v.both_ways(change, seen);
            if told == Told::AtOnce {
                let names = raw_names(&v.path(""));
                assert_eq!(names.len(), MILLION + TAGS.len());
                assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "repeated");
            }
        }
        if fx.mode().may_mount() {
            run(Command::new("umount").arg(&lower));
        }
    }
);
