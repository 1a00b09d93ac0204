// SPDX-License-Identifier: MIT OR Apache-2.0
//! A duplicate vanishes from the upper behind the mount, as Nix removes it: the lower's object shows
//! at once, with the lower's inode number.

use crate::common::check::Must;
use crate::common::fixture::Fixture;
use crate::look::{file, link, listed, same};
use crate::promise::{Seen, TAGS, View};
use crate::quiet::event;
use std::fs;

/// Gives both layers the same finished objects.
fn duplicates(fx: &Fixture) {
    for layer in [fx.lower(), fx.upper()] {
        for tag in TAGS {
            let name = |rest: &str| format!("{tag}.{rest}");
            layer.file(name("file"), tag).mtime(name("file"), 1);
            layer.symlink(name("link"), tag).mtime(name("link"), 1);
            layer.file(name("dir/f"), tag).file(name("dir/in/g"), tag);
            layer.symlink(name("dir/s"), tag);
            for inside in ["dir/f", "dir/in/g", "dir/s", "dir/in", "dir"] {
                layer.mtime(name(inside), 1);
            }
        }
    }
}

/// That everything below `names` shows, with the numbers of the lower or of the upper.
fn shows(fx: &Fixture, v: &View, names: &[&str], tag: &str, lower: bool) -> Seen {
    let layer = if lower { fx.lower() } else { fx.upper() };
    for name in names {
        let name = format!("{tag}.{name}");
        match name.rsplit_once(['.', '/']).map(|(_, last)| last) {
            Some("link" | "s") => link(&v.path(&name), tag)?,
            Some("file" | "f" | "g") => file(&v.path(&name), tag)?,
            _ => {}
        }
        same(&v.path(&name), &layer.path(&name))?;
    }
    let top = names[0];
    listed(&v.path(""), &format!("{tag}.{top}"), true)
}

fn vanishes(fx: &Fixture, v: &View, names: &[&str], remove: impl Fn(&std::path::Path)) {
    let change = |tag: &str| {
        if let Err(why) = shows(fx, v, names, tag, false) {
            panic!("before: {why}");
        }
        remove(&fx.upper().path(format!("{tag}.{}", names[0])));
    };
    v.both_ways(change, |tag| shows(fx, v, names, tag, true));
}

event!(
    /// A file.
    a_file_vanishes,
    |fx, told| {
        duplicates(fx);
        let v = told.mount(fx);
        vanishes(fx, &v, &["file"], |path| fs::remove_file(path).must());
    }
);

event!(
    /// A symbolic link.
    a_link_vanishes,
    |fx, told| {
        duplicates(fx);
        let v = told.mount(fx);
        vanishes(fx, &v, &["link"], |path| fs::remove_file(path).must());
    }
);

event!(
    /// A directory, as Nix removes it: what is in it first. What is below is known to the kernel.
    a_directory_vanishes,
    |fx, told| {
        duplicates(fx);
        let v = told.mount(fx);
        let names = ["dir", "dir/f", "dir/s", "dir/in", "dir/in/g"];
        vanishes(fx, &v, &names, |path| fs::remove_dir_all(path).must());
    }
);

event!(
    /// A directory that is moved away as a whole: nothing below it has changed.
    a_directory_moves_away,
    |fx, told| {
        duplicates(fx);
        let v = told.mount(fx);
        let away = fx.scratch("up/away");
        fs::create_dir_all(&away).must();
        let names = ["dir", "dir/f", "dir/s", "dir/in", "dir/in/g"];
        let name = |path: &std::path::Path| away.join(path.file_name().expect("a name"));
        vanishes(fx, &v, &names, |path| fs::rename(path, name(path)).must());
    }
);
