// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing: the upper copy goes, the lower one shows again, nothing is left behind.

use crate::common::check::{Must, absent, fails, lists, reads, stat, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mount::MountGuard;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

for_each_mode!(
    /// "unlink, rmdir: upper only: done, nothing left behind".
    upper_only_goes_without_trace,
    |fx| {
        fx.lower().file("both/low", "lower");
        fx.upper().file("f", "u").symlink("s", "x").fifo("p").dir("d").file("both/f", "u");
        fx.upper().file("t/a/b", "u").symlink("t/c", "d");
        let m = fx.mount();
        for name in ["f", "s", "p", "both/f"] {
            fs::remove_file(m.path(name)).must();
            absent(&m.path(name));
            absent(&fx.upper().path(name));
        }
        fs::remove_dir(m.path("d")).must();
        fs::remove_dir_all(m.path("t")).must();
        lists(&fx.upper().path(""), &["both"]);
        lists(&fx.upper().path("both"), &[]);
        lists(&m.path(""), &["both"]);
    }
);

for_each_mode!(
    /// "unlink, rmdir: lower only: EROFS", whatever the kind and wherever it is.
    lower_only_stays,
    |fx| {
        fx.lower().file("f", "l").symlink("s", "x").fifo("p").dir("empty").file("d/f", "l");
        fx.lower().file("both/f", "l").dir("both/empty");
        fx.upper().dir("both");
        let m = fx.mount();
        for name in ["f", "s", "p", "d/f", "both/f"] {
            fails(Errno::ROFS, &format!("unlink {name}"), fs::remove_file(m.path(name)));
            stat(&m.path(name));
        }
        for name in ["empty", "both/empty", "d"] {
            fails(Errno::ROFS, &format!("rmdir {name}"), fs::remove_dir(m.path(name)));
            stat(&m.path(name));
        }
        fails(Errno::NOENT, "unlink nothing", fs::remove_file(m.path("nothing")));
        fails(Errno::ISDIR, "unlink a directory", fs::remove_file(m.path("both")));
        fails(Errno::NOTDIR, "rmdir a file", fs::remove_dir(m.path("f")));
    }
);

for_each_mode!(
    /// "in both: the upper copy goes, the lower one shows again", at once and with its own number.
    the_lower_shows_again,
    |fx| {
        fx.lower().file("f", "lower").file("d/f", "lower").symlink("s", "lower").file("x/in", "lower");
        fx.upper().file("f", "upper").file("d/f", "upper").symlink("s", "upper").file("x", "upper");
        let m = fx.mount();
        for name in ["f", "d/f"] {
            reads(&m.path(name), "upper");
            fs::remove_file(m.path(name)).must();
            reads(&m.path(name), "lower");
            assert_eq!(stat(&m.path(name)).ino(), stat(&fx.lower().path(name)).ino(), "{name}");
            fails(Errno::ROFS, "unlink again", fs::remove_file(m.path(name)));
        }
        fs::remove_file(m.path("s")).must();
        assert_eq!(fs::read_link(m.path("s")).must().to_str(), Some("lower"));
        fs::remove_file(m.path("x")).must();
        reads(&m.path("x/in"), "lower");
        lists(&m.path(""), &["d", "f", "s", "x"]);
        lists(&fx.upper().path(""), &["d"]);
        lists(&fx.upper().path("d"), &[]);
    }
);

for_each_mode!(
    /// "rmdir: when the upper side is empty": then the lower directory shows again, alone; else
    /// ENOTEMPTY.
    rmdir_of_a_merged_directory,
    |fx| {
        fx.lower().file("d/low", "lower").dir("both-empty");
        fx.upper().file("d/up", "upper").dir("both-empty");
        let m = fx.mount();
        fails(Errno::NOTEMPTY, "rmdir with an upper entry", fs::remove_dir(m.path("d")));
        fs::remove_file(m.path("d/up")).must();
        lists(&m.path("d"), &["low"]);
        fs::remove_dir(m.path("d")).must();
        absent(&fx.upper().path("d"));
        lists(&m.path("d"), &["low"]);
        reads(&m.path("d/low"), "lower");
        assert_eq!(stat(&m.path("d")).ino(), stat(&fx.lower().path("d")).ino());
        fails(Errno::ROFS, "create in it", fs::write(m.path("d/new"), "x"));
        fails(Errno::ROFS, "rmdir it again", fs::remove_dir(m.path("d")));
        fs::remove_dir(m.path("both-empty")).must();
        lists(&fx.upper().path(""), &[]);
        lists(&m.path(""), &["both-empty", "d"]);
    }
);

for_each_mode!(
    /// A directory of the upper alone that is not empty is ENOTEMPTY, and stays.
    rmdir_of_what_is_not_empty,
    |fx| {
        fx.upper().file("d/f", "u");
        let m = fx.mount();
        fails(Errno::NOTEMPTY, "rmdir", fs::remove_dir(m.path("d")));
        reads(&m.path("d/f"), "u");
    }
);

for_each_mode!(
    /// A removed name may be made again at once, as another kind, many times.
    names_may_be_used_again,
    |fx| {
        fx.lower().file("d/low", "lower");
        fx.upper().dir("d");
        let m = fx.mount();
        let path = m.path("d/name");
        for round in 0..50 {
            let text = format!("round {round}");
            fs::write(&path, &text).must();
            reads(&path, &text);
            fs::remove_file(&path).must();
            fs::create_dir(&path).must();
            fs::write(path.join("inside"), &text).must();
            lists(&path, &["inside"]);
            fs::remove_dir_all(&path).must();
            std::os::unix::fs::symlink(&text, &path).must();
            assert_eq!(fs::read_link(&path).must().to_str(), Some(text.as_str()));
            fs::remove_file(&path).must();
            absent(&path);
        }
        lists(&m.path("d"), &["low"]);
    }
);

/// Two objects that are in both layers, as Nix leaves them: canonical, thus with equal times.
fn duplicates(fx: &Fixture) {
    if fx.on_kernel() {
        fx.skip("a documented difference");
    }
    for layer in [fx.lower(), fx.upper()] {
        layer
            .file("obj/f", "same")
            .file("obj/unread", "same")
            .file("flat", "same");
        for name in ["obj/f", "obj/unread", "obj", "flat"] {
            layer.mtime(name, 1);
        }
    }
}

/// What Nix does to an object that is in both layers: it goes straight from the upper. Returns
/// when the lower's numbers show.
fn vanish(fx: &Fixture, m: &MountGuard) {
    fs::remove_dir_all(fx.upper().path("obj")).must();
    fs::remove_file(fx.upper().path("flat")).must();
    for name in ["obj", "obj/f", "flat"] {
        let want = stat(&fx.lower().path(name)).ino();
        let shown = || fs::symlink_metadata(m.path(name)).is_ok_and(|got| got.ino() == want);
        assert!(
            within(Duration::from_secs(3), shown),
            "{name} keeps the old number"
        );
    }
}

for_each_mode!(
    /// "changes to the layers underneath show up at once": a duplicate that vanished from the upper
    /// reads as the lower one, and is never missing in between.
    an_upper_duplicate_that_vanishes,
    |fx| {
        duplicates(fx);
        let m = fx.mount();
        reads(&m.path("obj/f"), "same");
        reads(&m.path("flat"), "same");
        vanish(fx, &m);
        for name in ["obj/f", "obj/unread", "flat"] {
            reads(&m.path(name), "same");
        }
        lists(&m.path(""), &["flat", "obj"]);
        lists(&m.path("obj"), &["f", "unread"]);
    }
);

for_each_mode!(
    /// "the same node goes on from its twin in the lower, so that open files, mappings, running
    /// programs, working directories and bind mounts inside survive".
    what_is_open_survives_a_vanishing_duplicate,
    |fx| {
        duplicates(fx);
        let m = fx.mount();
        let files = ["obj/f", "obj/unread", "flat"].map(|name| fs::File::open(m.path(name)).must());
        let directory = fs::File::open(m.path("obj")).must();
        stat(&m.path("obj/f"));
        vanish(fx, &m);
        for file in files {
            assert_eq!(std::io::read_to_string(file).must(), "same");
        }
        let below = rustix::fs::openat(&directory, "f", OFlags::RDONLY, Mode::empty()).must();
        assert_eq!(std::io::read_to_string(fs::File::from(below)).must(), "same");
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 4096];
        let mut listed = RawDir::new(&directory, &mut buffer);
        let mut names = 0;
        while let Some(entry) = listed.next() {
            entry.must();
            names += 1;
        }
        assert_eq!(names, 4, "dot, dot-dot and two files");
    }
);
