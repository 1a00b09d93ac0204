// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory of both layers whose lower side goes, comes back, or becomes another one.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::look::{file, listed, nothing};
use crate::promise::{TAGS, View};
use crate::quiet::event;
use std::fs;

/// Puts one directory into both layers, with a name of each on two levels, as Nix has finished it
/// a while ago or not.
fn both(fx: &Fixture, tag: &str) {
    for (layer, name) in [(fx.lower(), "low"), (fx.upper(), "up")] {
        for dir in ["", "sub/"] {
            let dir = format!("{tag}.d/{dir}");
            layer
                .file(format!("{dir}{name}"), name)
                .file(format!("{dir}both"), name);
        }
    }
}

/// What is seen of it while both sides are there, also so that the kernel keeps it.
fn known(v: &View, tag: &str) {
    for dir in ["", "sub/"] {
        let path = |name: &str| v.path(format!("{tag}.d/{dir}{name}"));
        file(&path("low"), "low").expect("before");
        file(&path("up"), "up").expect("before");
        file(&path("both"), "up").expect("before");
        nothing(&path("new")).expect("before");
        listed(&path(""), "low", true).expect("before");
    }
}

fn start(fx: &Fixture) {
    for tag in TAGS {
        both(fx, tag);
    }
}

event!(
    /// It goes: the upper's names are all that is left, on both levels.
    lower_side_goes,
    |fx, told| {
        start(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            known(&v, tag);
            fs::rename(fx.lower().path(format!("{tag}.d")), fx.scratch(&format!("low/{tag}"))).must();
        };
        v.both_ways(change, |tag| {
            for dir in ["", "sub/"] {
                let path = |name: &str| v.path(format!("{tag}.d/{dir}{name}"));
                nothing(&path("low"))?;
                file(&path("both"), "up")?;
                listed(&path(""), "low", false)?;
                listed(&path(""), "up", true)?;
            }
            Ok(())
        });
        for tag in TAGS {
            fs::write(v.path(format!("{tag}.d/sub/low")), "upper now").must();
        }
    }
);

event!(
    /// It becomes another one, with other names and other contents.
    lower_side_is_exchanged,
    |fx, told| {
        start(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            known(&v, tag);
            for dir in ["", "sub/"] {
                fx.lower().file(format!("{tag}.n/{dir}new"), "new").file(format!("{tag}.n/{dir}low"), "other one");
            }
            let [old, new] = ["d", "n"].map(|name| fx.lower().path(format!("{tag}.{name}")));
            let no = rustix::fs::CWD;
            rustix::fs::renameat_with(no, old, no, new, rustix::fs::RenameFlags::EXCHANGE).must();
        };
        v.both_ways(change, |tag| {
            for dir in ["", "sub/"] {
                let path = |name: &str| v.path(format!("{tag}.d/{dir}{name}"));
                file(&path("new"), "new")?;
                file(&path("low"), "other one")?;
                file(&path("both"), "up")?;
                listed(&path(""), "new", true)?;
            }
            Ok(())
        });
    }
);

event!(
    /// It is collected and built again: nobody looked in between.
    lower_side_is_made_again,
    |fx, told| {
        start(fx);
        let v = told.mount(fx);
        let change = |tag: &str| {
            known(&v, tag);
            let dir = format!("{tag}.d");
            fs::remove_dir_all(fx.lower().path(&dir)).must();
            fx.lower().file(format!("{dir}/again"), "again").file(format!("{dir}/sub/again"), "again");
        };
        v.both_ways(change, |tag| {
            for dir in ["", "sub/"] {
                let path = |name: &str| v.path(format!("{tag}.d/{dir}{name}"));
                file(&path("again"), "again")?;
                nothing(&path("low"))?;
                listed(&path(""), "again", true)?;
                listed(&path(""), "up", true)?;
                listed(&path(""), "low", false)?;
            }
            Ok(())
        });
    }
);
