// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is being written through the mount stays as fast as the rest: the kernel knows it, and does
//! not ask again.

use crate::common::check::{Must, absent, lists, reads, stat};
use crate::common::fixture::Fixture;
use crate::common::{asked, trace};
use crate::promise::Told;
use crate::quiet::alone_in_each_mode;
use std::fs;
use std::io::Write;

const ROUNDS: usize = 200;

fn traceable(fx: &Fixture) -> bool {
    trace::directory().is_none() && !fx.on_kernel()
}

alone_in_each_mode!(
    /// In a build's directory and in an object that is not finished: looking at it again and again
    /// costs no question of the driver, because the kernel made it itself.
    what_is_being_written_is_not_asked_for,
    [root],
    |fx| {
        if !traceable(fx) {
            return;
        }
        fx.lower().file("old", "old");
        let v = Told::AtOnce.mount(fx);
        let objects = ["x.chroot", "half-written"];
        let mut open = Vec::new();
        for object in objects {
            fs::create_dir_all(v.path(object).join("in/deep")).must();
            let mut file = fs::File::create(v.path(object).join("in/deep/f")).must();
            file.write_all(b"so far").must();
            open.push(file);
        }
        let look = || {
            for object in objects.map(|object| v.path(object)) {
                stat(&object);
                lists(&object.join("in"), &["deep"]);
                lists(&object.join("in/deep"), &["f"]);
                reads(&object.join("in/deep/f"), "so far");
                absent(&object.join("in/deep/g"));
            }
        };
        look();
        look();
        let calls = asked::during(fx, &v.mount, || {
            (0..ROUNDS).for_each(|_| look());
            absent(&v.path("asked for once"));
        });
        assert!(calls.iter().any(|call| call.contains("asked for once")), "nothing is traced");
        // The events of what was just made may still be under way, and the names are asked for once
        // or twice because of them; asking in each round would be far more.
        assert!(calls.len() < ROUNDS / 4, "{} calls: {calls:#?}", calls.len());
        drop(open);
    }
);

alone_in_each_mode!(
    /// Making and removing top-level names through the mount does not make other names be asked
    /// again.
    own_changes_concern_no_other_name,
    [root],
    |fx| {
        if !traceable(fx) {
            return;
        }
        fx.upper().file("other-object/other", "other").file("other-file", "other");
        let v = Told::AtOnce.mount(fx);
        let look = || {
            reads(&v.path("other-object/other"), "other");
            reads(&v.path("other-file"), "other");
        };
        // The first read moves the access time, which the kernel asks for once more.
        look();
        look();
        let calls = asked::during(fx, &v.mount, || {
            for number in 0..50 {
                fs::create_dir(v.path(format!("own{number}"))).must();
                look();
                fs::write(v.path(format!("own-file{number}")), "own").must();
                look();
                fs::rename(v.path(format!("own{number}")), v.path("own")).must();
                fs::remove_dir(v.path("own")).must();
                look();
            }
        });
        assert!(calls.iter().any(|call| call.contains("own")), "nothing was traced");
        let other: Vec<_> = calls.iter().filter(|call| call.contains("other")).collect();
        assert!(other.is_empty(), "{other:#?}");
    }
);
