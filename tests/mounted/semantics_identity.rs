// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identity: numbers, devices, link counts, hard links.

use crate::common::check::{Must, listed_numbers_are_true, reads, stat};
use crate::common::for_each_mode;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Lists every name below `root`, relative to it, directories before what they hold.
fn tree(root: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, name: &Path, names: &mut Vec<PathBuf>) {
        names.push(name.to_owned());
        if stat(&root.join(name)).is_dir() {
            for entry in fs::read_dir(root.join(name)).must() {
                walk(root, &name.join(entry.must().file_name()), names);
            }
        }
    }
    let mut names = Vec::new();
    walk(root, Path::new(""), &mut names);
    names
}

for_each_mode!(
    /// "`st_ino` is the backing inode number where both layers share a filesystem, so that `stat`
    /// agrees on merged, upper and lower; `st_dev` is one; `d_ino == st_ino`".
    numbers_are_the_backing_ones,
    |fx| {
        for layer in [fx.lower(), fx.upper()] {
            layer.file("both/f", "1").file("both/deep/g", "2").symlink("both/s", "x");
        }
        fx.lower().file("low/a/b/f", "l").fifo("low/p").file("f-low", "l");
        fx.upper().file("up/a/b/f", "u").fifo("up/p").file("f-up", "u");
        let m = fx.mount();
        let device = stat(&m.path("")).dev();
        for name in tree(&m.path("")) {
            let merged = stat(&m.path(&name));
            let number = |path| fs::symlink_metadata(path).map(|found| found.ino());
            let numbers = [fx.upper().path(&name), fx.lower().path(&name)].map(number);
            // A merged directory has two; which one it tells is open.
            let backing: Vec<_> = numbers.into_iter().flatten().take(1 + usize::from(merged.is_dir())).collect();
            assert_eq!(merged.dev(), device, "st_dev of {name:?}");
            // The root of a mount has a number of its own in every filesystem.
            if name != Path::new("") {
                assert!(backing.contains(&merged.ino()), "st_ino of {name:?}: {backing:?}");
            }
        }
        listed_numbers_are_true(&m.path(""));
    }
);

for_each_mode!(
    /// New objects tell the number of their upper file from the first stat on, by name, by
    /// descriptor and in listings.
    numbers_of_new_objects,
    |fx| {
        let m = fx.mount();
        fs::create_dir(m.path("d")).must();
        for round in 0..20 {
            let name = format!("d/f{round}");
            let file = File::create_new(m.path(&name)).must();
            let want = stat(&fx.upper().path(&name)).ino();
            assert_eq!(file.metadata().must().ino(), want, "fstat of {name}");
            assert_eq!(stat(&m.path(&name)).ino(), want, "lstat of {name}");
        }
        fs::hard_link(m.path("d/f0"), m.path("d/l0")).must();
        std::os::unix::fs::symlink("x", m.path("d/s")).must();
        listed_numbers_are_true(&m.path(""));
        assert_eq!(stat(&m.path("d")).ino(), stat(&fx.upper().path("d")).ino());
    }
);

for_each_mode!(
    /// "`st_nlink` is the truth" for files; a merged directory tells 1, as kernel OverlayFS does,
    /// and other directories what their backing directory tells.
    link_counts,
    |fx| {
        for layer in [fx.lower(), fx.upper()] {
            layer.file("both/f", "x").dir("both/d1").dir("both/d2");
            layer.hard_link("both/f", "both/g");
        }
        fx.lower().file("low/f", "x").hard_link("low/f", "low/g").hard_link("low/f", "h-low").dir("low/d");
        fx.upper().file("up/f", "x").hard_link("up/f", "up/g").hard_link("up/f", "h-up").dir("up/d");
        let m = fx.mount();
        for (name, count) in [("low/f", 3), ("h-low", 3), ("up/f", 3), ("h-up", 3), ("both/f", 2)] {
            assert_eq!(stat(&m.path(name)).nlink(), count, "{name}");
        }
        assert_eq!(stat(&m.path("both")).nlink(), 1);
        assert_eq!(stat(&m.path("low")).nlink(), stat(&fx.lower().path("low")).nlink());
        assert_eq!(stat(&m.path("up")).nlink(), stat(&fx.upper().path("up")).nlink());
        fs::hard_link(m.path("up/f"), m.path("up/new")).must();
        for name in ["up/f", "up/g", "h-up", "up/new"] {
            assert_eq!(stat(&m.path(name)).nlink(), 4, "{name} after link");
        }
        fs::remove_file(m.path("up/g")).must();
        fs::remove_file(m.path("h-up")).must();
        for name in ["up/f", "up/new"] {
            assert_eq!(stat(&m.path(name)).nlink(), 2, "{name} after unlink");
        }
    }
);

for_each_mode!(
    /// "hard links inside a layer are one node": what is written by one name is read by the other
    /// at once, and attributes are one.
    hard_links_are_one_node,
    |fx| {
        fx.upper().file("a/f", "old").hard_link("a/f", "b/g").hard_link("a/f", "h");
        let m = fx.mount();
        for name in ["a/f", "b/g", "h"] {
            reads(&m.path(name), "old");
        }
        fs::write(m.path("b/g"), "new content").must();
        for name in ["a/f", "b/g", "h"] {
            reads(&m.path(name), "new content");
        }
        fs::remove_file(m.path("a/f")).must();
        fs::write(m.path("h"), "newer").must();
        reads(&m.path("b/g"), "newer");
        fs::rename(m.path("b/g"), m.path("moved")).must();
        reads(&m.path("moved"), "newer");
        assert_eq!(stat(&m.path("moved")).nlink(), 2);
        // Renaming one name of a file onto another name of it does nothing, by POSIX.
        fs::rename(m.path("moved"), m.path("h")).must();
        reads(&m.path("moved"), "newer");
        assert_eq!(stat(&m.path("moved")).nlink(), 2);
    }
);

for_each_mode!(
    /// Nix's optimiser: link a file into `.links`, link that back under a temporary name, rename
    /// it over another file. All of it is of the upper, and the counts are true.
    optimise,
    |fx| {
        if fx.on_kernel() {
            fx.skip("a documented difference");
        }
        fx.lower().file(".links/hash", "content").file("old/f", "content");
        fx.upper().file("one/f", "content").file("two/f", "content");
        let m = fx.mount();
        fs::create_dir(m.path(".links")).must();
        fs::hard_link(m.path("one/f"), m.path(".links/hash")).must();
        fs::hard_link(m.path(".links/hash"), m.path(".tmp-link-1-2")).must();
        fs::rename(m.path(".tmp-link-1-2"), m.path("two/f")).must();
        assert_eq!(stat(&m.path("two/f")).nlink(), 3);
        assert_eq!(stat(&m.path("one/f")).ino(), stat(&m.path("two/f")).ino());
        let listed = fs::read_dir(m.path(".links")).must().next().expect("one link").must();
        assert_eq!(listed.ino(), stat(&m.path("one/f")).ino());
        fs::remove_file(m.path("one/f")).must();
        fs::remove_file(m.path("two/f")).must();
        assert_eq!(stat(&m.path(".links/hash")).nlink(), 1);
        fs::remove_file(m.path(".links/hash")).must();
        crate::common::check::lists(&fx.upper().path(".links"), &[]);
    }
);

for_each_mode!(
    /// Freed inode numbers are used again by the filesystem: old descriptors keep the old content,
    /// new names show the new one.
    freed_numbers_are_used_again,
    |fx| {
        let m = fx.mount();
        let mut held = Vec::new();
        for round in 0..200 {
            let (path, text) = (m.path("f"), format!("content {round}"));
            fs::write(&path, &text).must();
            if round % 3 == 0 {
                held.push((File::open(&path).must(), text.clone()));
            }
            reads(&path, &text);
            fs::remove_file(&path).must();
            fs::create_dir(&path).must();
            fs::remove_dir(&path).must();
        }
        let mut numbers = HashMap::new();
        for (file, text) in held {
            let number = file.metadata().must().ino();
            assert!(numbers.insert(number, text.clone()).is_none(), "{number} twice");
            assert_eq!(std::io::read_to_string(file).must(), text);
        }
    }
);

for_each_mode!(
    /// A number that was freed behind the mount and used again: never the old content under the
    /// new name.
    numbers_used_again_behind_the_mount,
    |fx| {
        if fx.on_kernel() {
            fx.skip("changing layers under a kernel mount is undefined");
        }
        let m = fx.mount();
        for round in 0..30 {
            let (name, text) = (format!("object-{round}"), format!("content {round}"));
            fs::create_dir(fx.upper().path(&name)).must();
            fs::write(fx.upper().path(&name).join("f"), &text).must();
            let shown = || fs::read(m.path(&name).join("f")).is_ok_and(|got| got == text.as_bytes());
            let limit = std::time::Duration::from_secs(3);
            assert!(crate::common::check::within(limit, shown), "{name} does not show");
            fs::remove_dir_all(fx.upper().path(&name)).must();
            let gone = || fs::symlink_metadata(m.path(&name)).is_err();
            assert!(crate::common::check::within(limit, gone), "{name} still shows");
        }
    }
);
