// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both layers change in one go.

use crate::common::check::Must;
use crate::look::{file, listed, nothing, same};
use crate::promise::TAGS;
use crate::quiet::event;
use std::fs;

event!(
    /// A duplicate goes from the upper while the lower gains other names, some of which were looked
    /// for in vain.
    one_vanishes_and_others_come,
    |fx, told| {
        for layer in [fx.lower(), fx.upper()] {
            for tag in TAGS {
                layer.file(format!("{tag}.dup/f"), tag).mtime(format!("{tag}.dup/f"), 1);
                layer.mtime(format!("{tag}.dup"), 1);
            }
        }
        let v = told.mount(fx);
        let change = |tag: &str| {
            file(&v.path(format!("{tag}.dup/f")), tag).expect("the duplicate");
            nothing(&v.path(format!("{tag}.more1"))).expect("it is not there yet");
            listed(&v.path(""), &format!("{tag}.more1"), false).expect("it is not there yet");
            fx.lower().file(format!("{tag}.more0"), "more");
            fs::remove_dir_all(fx.upper().path(format!("{tag}.dup"))).must();
            fx.lower().file(format!("{tag}.more1"), "more");
        };
        let seen = |tag: &str| {
            for more in ["more0", "more1"] {
                file(&v.path(format!("{tag}.{more}")), "more")?;
                listed(&v.path(""), &format!("{tag}.{more}"), true)?;
            }
            for name in ["dup", "dup/f"] {
                let name = format!("{tag}.{name}");
                same(&v.path(&name), &fx.lower().path(&name))?;
            }
            file(&v.path(format!("{tag}.dup/f")), tag)
        };
        v.both_ways(change, seen);
    }
);

event!(
    /// The lower object is replaced by a rename while its duplicate goes from the upper: what shows
    /// is the new object, a file as well as a directory.
    the_lower_is_replaced_as_the_upper_vanishes,
    |fx, told| {
        for layer in [fx.lower(), fx.upper()] {
            for tag in TAGS {
                let (plain, dir) = (format!("{tag}.file"), format!("{tag}.dir"));
                layer.file(&plain, "old").mtime(plain, 1);
                layer.file(format!("{dir}/f"), "old").mtime(format!("{dir}/f"), 1).mtime(dir, 1);
            }
        }
        let v = told.mount(fx);
        let change = |tag: &str| {
            let lower = fx.lower();
            let new = |name: &str| format!("{tag}.new-{name}");
            lower.file(new("file"), "another").file(new("dir") + "/f", "another");
            for name in ["file", "dir/f"] {
                file(&v.path(format!("{tag}.{name}")), "old").expect("the duplicate");
            }
            for (name, aside) in [("file", None), ("dir", Some(format!("{tag}.aside")))] {
                let path = lower.path(format!("{tag}.{name}"));
                if let Some(aside) = aside {
                    fs::rename(&path, lower.path(aside)).must();
                }
                fs::rename(lower.path(new(name)), path).must();
            }
            fs::remove_dir_all(fx.upper().path(format!("{tag}.dir"))).must();
            fs::remove_file(fx.upper().path(format!("{tag}.file"))).must();
        };
        let seen = |tag: &str| {
            for name in ["file", "dir/f"] {
                let name = format!("{tag}.{name}");
                file(&v.path(&name), "another")?;
                same(&v.path(&name), &fx.lower().path(&name))?;
            }
            file(&v.path(format!("{tag}.aside/f")), "old")?;
            nothing(&v.path(format!("{tag}.new-file")))?;
            nothing(&v.path(format!("{tag}.new-dir")))
        };
        v.both_ways(change, seen);
    }
);
