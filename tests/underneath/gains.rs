// SPDX-License-Identifier: MIT OR Apache-2.0
//! A layer gains or loses names of its own: files, directories and symbolic links.

use crate::common::check::{Must, stat};
use crate::common::fixture::Fixture;
use crate::common::layer::LayerBuilder;
use crate::look::{file, link, listed, nothing, same};
use crate::promise::{Seen, TAGS, View};
use crate::quiet::event;
use std::fs;
use std::os::unix::fs::MetadataExt;

const KINDS: [&str; 3] = ["file", "dir", "link"];

fn named(tag: &str) -> [String; 3] {
    KINDS.map(|kind| format!("{tag}.{kind}"))
}

/// Adds one object of each kind.
fn add(layer: &LayerBuilder, tag: &str) {
    let [file, dir, link] = named(tag);
    layer.file(file, tag).file(dir + "/inside", tag);
    layer.symlink(link, tag);
}

fn remove(layer: &LayerBuilder, tag: &str) {
    let [file, dir, link] = named(tag).map(|name| layer.path(name));
    fs::remove_file(file).must();
    fs::remove_dir_all(dir).must();
    fs::remove_file(link).must();
}

/// That all three are there, with the numbers of `layer`.
fn there(v: &View, layer: &LayerBuilder, tag: &str) -> Seen {
    let [plain, dir, soft] = named(tag);
    file(&v.path(&plain), tag)?;
    file(&v.path(&dir).join("inside"), tag)?;
    link(&v.path(&soft), tag)?;
    named(tag)
        .iter()
        .try_for_each(|name| same(&v.path(name), &layer.path(name)))
}

fn nowhere(v: &View, tag: &str) -> Seen {
    let gone = |name: &String| nothing(&v.path(name));
    named(tag).iter().try_for_each(gone)
}

fn all_listed(v: &View, tag: &str, there: bool) -> Seen {
    let listed = |name: &String| listed(&v.path(""), name, there);
    named(tag).iter().try_for_each(listed)
}

#[track_caller]
fn must(seen: Seen) {
    if let Err(why) = seen {
        panic!("before the change: {why}");
    }
}

fn old(fx: &Fixture) {
    fx.lower().file("old", "old");
    fx.upper().file("new", "new");
}

event!(
    /// The lower gains names that nobody has asked for.
    lower_gains_new_names,
    |fx, told| {
        old(fx);
        let v = told.mount(fx);
        v.both_ways(|tag| add(&fx.lower(), tag), |tag| there(&v, &fx.lower(), tag));
    }
);

event!(
    /// The lower gains names that were looked for in vain, twice: the kernel remembers.
    lower_gains_what_was_missing,
    |fx, told| {
        old(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            (0..2).for_each(|_| must(nowhere(&v, tag)));
            add(&fx.lower(), tag);
        };
        v.both_ways(change, |tag| there(&v, &fx.lower(), tag));
    }
);

event!(
    /// The lower gains names after the top was listed, which the kernel keeps: they are listed, to
    /// those who ask for the attributes of the top first and to those who do not.
    lower_gains_after_a_listing,
    |fx, told| {
        old(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            (0..2).for_each(|_| must(all_listed(&v, tag, false)));
            add(&fx.lower(), tag);
        };
        v.both_ways(change, |tag| all_listed(&v, tag, true));
    }
);

event!(
    /// The lower loses names that were looked up, read and listed.
    lower_loses_names,
    |fx, told| {
        old(fx);
        TAGS.iter().for_each(|tag| add(&fx.lower(), tag));
        let v = told.mount(fx);
        let change = |tag: &str| {
            must(there(&v, &fx.lower(), tag));
            must(all_listed(&v, tag, true));
            remove(&fx.lower(), tag);
        };
        v.both_ways(change, |tag| nowhere(&v, tag).and_then(|()| all_listed(&v, tag, false)));
    }
);

event!(
    /// The upper gains names behind the mount that were looked for in vain and not listed.
    upper_gains_new_names,
    |fx, told| {
        old(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            must(nowhere(&v, tag));
            must(all_listed(&v, tag, false));
            add(&fx.upper(), tag);
        };
        let seen = |tag: &str| there(&v, &fx.upper(), tag).and_then(|()| all_listed(&v, tag, true));
        v.both_ways(change, seen);
    }
);

event!(
    /// The upper gains, behind the mount, names that the lower has: a file and a link hide, a
    /// directory merges.
    upper_gains_what_the_lower_has,
    |fx, told| {
        old(fx);
        for tag in TAGS {
            let [file, dir, link] = named(tag);
            fx.lower().file(file, "lower").file(dir + "/low", "lower").file(link, "lower");
        }
        let v = told.mount(fx);
        let change = |tag: &str| {
            for name in named(tag) {
                assert_eq!(stat(&v.path(&name)).nlink(), stat(&fx.lower().path(&name)).nlink());
            }
            must(file(&v.path(format!("{tag}.file")), "lower"));
            must(nothing(&v.path(format!("{tag}.dir/inside"))));
            add(&fx.upper(), tag);
        };
        let seen = |tag: &str| {
            there(&v, &fx.upper(), tag)?;
            file(&v.path(format!("{tag}.dir/low")), "lower")
        };
        v.both_ways(change, seen);
    }
);

event!(
    /// The lower gains a directory that the upper has, with names inside that were looked for in
    /// vain, also further down, and with others that were listed.
    lower_gains_what_the_upper_has,
    |fx, told| {
        old(fx);
        for tag in TAGS {
            fx.upper().file(format!("{tag}.both/sub/own"), tag);
        }
        let v = told.mount(fx);
        let inside = |tag: &str, name: &str| v.path(format!("{tag}.both")).join(name);
        for tag in TAGS {
            must(file(&inside(tag, "sub/own"), tag));
            for name in ["late", "sub/late", "late", "sub/late"] {
                must(nothing(&inside(tag, name)));
            }
            must(listed(&inside(tag, ""), "sub", true));
            must(listed(&inside(tag, "sub"), "own", true));
        }
        let change = |tag: &str| {
            fx.lower().file(format!("{tag}.new/late"), tag).file(format!("{tag}.new/sub/late"), tag);
            let [new, both] = ["new", "both"].map(|name| fx.lower().path(format!("{tag}.{name}")));
            fs::rename(new, both).must();
        };
        let seen = |tag: &str| {
            for name in ["late", "sub/late", "sub/own"] {
                file(&inside(tag, name), tag)?;
            }
            listed(&inside(tag, ""), "late", true)?;
            listed(&inside(tag, "sub"), "late", true)?;
            listed(&inside(tag, "sub"), "own", true)
        };
        v.both_ways(change, seen);
    }
);
