// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes underneath the mount: "changes to the layers underneath show up at once"; mounts inside
//! the view stay; the barrier makes everything before it visible.

use crate::common::check::{Must, absent, lists, reads, stat, text, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mode::program;
use crate::common::mount::{MountGuard, is_mounted, run};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// These tests run beside others, under a tracer too: the times are held in `promise`.
const SOON: Duration = Duration::from_millis(500);

/// Waits until every change made before is visible.
fn barrier(m: &MountGuard) {
    run(Command::new(program()).arg("sync").arg(m.path("")));
}

fn mounted(fx: &Fixture) -> MountGuard {
    if fx.on_kernel() {
        fx.skip("the kernel's OverlayFS forbids its layers to change");
    }
    fx.mount()
}

fn watched(fx: &Fixture) -> MountGuard {
    fx.lower().file("old", "old").file("obj/f", "in the lower");
    mounted(fx)
}

for_each_mode!(
    /// "A name that appears in the lower is visible also after a failed lookup of it and after a
    /// listing": always after the barrier, whatever it is.
    what_the_lower_gains_after_the_barrier,
    |fx| {
        let m = watched(fx);
        for round in 0..20 {
            let [file, dir, link] = ["f", "d", "s"].map(|kind| format!("{kind}{round}"));
            for name in [&file, &dir, &link] {
                absent(&m.path(name));
            }
            let before = fs::read_dir(m.path("")).must().count();
            fx.lower().file(&file, "new").file(format!("{dir}/inside"), "new").symlink(&link, "old");
            barrier(&m);
            reads(&m.path(&file), "new");
            reads(&m.path(&dir).join("inside"), "new");
            reads(&m.path(&link), "old");
            assert_eq!(fs::read_dir(m.path("")).must().count(), before + 3);
        }
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// The same without the barrier, a moment later; and names that go away again.
    what_the_lower_gains_and_loses,
    |fx| {
        let m = watched(fx);
        absent(&m.path("new"));
        lists(&m.path(""), &["obj", "old"]);
        fx.lower().file("new", "new");
        assert!(within(SOON, || m.path("new").is_file()), "new name in the lower");
        let listed = || fs::read_dir(m.path("")).must().count() == 3;
        assert!(within(SOON, listed), "new name in the listing");
        fs::remove_file(fx.lower().path("new")).must();
        assert!(within(SOON, || fs::symlink_metadata(m.path("new")).is_err()), "gone from the lower");
        let listed = || fs::read_dir(m.path("")).must().count() == 2;
        assert!(within(SOON, listed), "gone from the listing");
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// "our own tools do": an object that is put into the upper directly shows, and shadows.
    what_the_upper_gains,
    |fx| {
        let m = watched(fx);
        reads(&m.path("old"), "old");
        absent(&m.path("own"));
        fx.upper().file("own", "own").file("old", "shadow");
        barrier(&m);
        reads(&m.path("own"), "own");
        reads(&m.path("old"), "shadow");
    }
);

for_each_mode!(
    /// "a duplicate that vanished from the upper shows the lower's object at once, with the lower's
    /// inode number".
    a_duplicate_vanishes,
    |fx| {
        fx.upper().file("obj/f", "in the lower").file("old", "old");
        for layer in [fx.lower(), fx.upper()] {
            layer.file("obj/f", "in the lower").file("old", "old");
            layer.mtime("obj/f", 1).mtime("obj", 1).mtime("old", 1);
        }
        let m = mounted(fx);
        reads(&m.path("obj/f"), "in the lower");
        let open = fs::File::open(m.path("old")).must();
        fs::remove_dir_all(fx.upper().path("obj")).must();
        fs::remove_file(fx.upper().path("old")).must();
        barrier(&m);
        for name in ["obj", "obj/f", "old"] {
            assert_eq!(stat(&m.path(name)).ino(), stat(&fx.lower().path(name)).ino(), "{name}");
        }
        reads(&m.path("obj/f"), "in the lower");
        assert_eq!(std::io::read_to_string(open).must(), "old");
    }
);

for_each_mode!(
    /// Two builds of one object differ in bytes that neither size nor time tells: what was cached
    /// of the upper one is not shown as the lower's.
    a_duplicate_with_other_contents_vanishes,
    |fx| {
        for (layer, text) in [(fx.lower(), "lower"), (fx.upper(), "upper")] {
            layer.file("obj/dir/f", text).file("old", text);
            layer.mtime("obj/dir/f", 1).mtime("obj/dir", 1).mtime("obj", 1).mtime("old", 1);
        }
        let m = mounted(fx);
        for name in ["obj/dir/f", "old"] {
            reads(&m.path(name), "upper");
        }
        fs::remove_dir_all(fx.upper().path("obj")).must();
        fs::remove_file(fx.upper().path("old")).must();
        barrier(&m);
        for name in ["obj/dir/f", "old"] {
            reads(&m.path(name), "lower");
        }
    }
);

for_each_mode!(
    /// "mounts inside the view, in every namespace, are never detached".
    mounts_inside_stay,
    [root, userns],
    |fx| {
        fx.upper().dir("x.chroot/in").dir("source");
        fx.lower().dir("x.chroot/in");
        let m = watched(fx);
        let inside = m.path("x.chroot/in");
        fs::write(m.path("source/here"), "bound").must();
        let bind = |from: &Path, to: &Path| run(Command::new("mount").arg("--bind").args([from, to]));
        bind(&m.path("source"), &inside);
        fx.lower().file("x.chroot.lock", "").file("x.chroot/late", "");
        fs::remove_dir_all(fx.upper().path("x.chroot")).must();
        for name in ["y", "z"] {
            fx.lower().file(name, "more");
        }
        barrier(&m);
        assert!(is_mounted(&inside), "detached");
        reads(&inside.join("here"), "bound");
        assert!(within(Duration::from_secs(2), || fs::symlink_metadata(m.path("x.chroot/late")).is_ok()));
        assert!(is_mounted(&inside), "detached after a while");
        run(Command::new("umount").arg(&inside));
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// "An overflow invalidates everything once and loses nothing": more names than the queue of
    /// inotify holds, some of which were looked for in vain.
    a_burst_of_names,
    [root],
    |fx| {
        let m = watched(fx);
        for number in (0..20_000).step_by(100) {
            absent(&m.path(format!("n{number}")));
        }
        for number in 0..20_000 {
            fs::File::create(fx.lower().path(format!("n{number}"))).must();
        }
        barrier(&m);
        for number in (0..20_000).step_by(100) {
            stat(&m.path(format!("n{number}")));
        }
        assert_eq!(fs::read_dir(m.path("")).must().count(), 20_002);
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// A barrier that cannot keep its promise says so: what a layer has gained is not known while
    /// the layer cannot be listed.
    a_barrier_that_fails,
    [user],
    |fx| {
        fx.lower().file("old", "old");
        let m = fx.mount_with("watch=off,lower-ttl=60s");
        fx.lower().mode("", 0o311);
        let failed = Command::new(program()).arg("sync").arg(m.path("")).output().must();
        fx.lower().mode("", 0o755);
        assert_eq!(failed.status.code(), Some(3), "{failed:?}");
        assert!(text(&failed.stderr).contains("Permission denied"), "{failed:?}");
        run(Command::new(program()).arg("sync").arg(m.path("")));
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// `nix-store --optimise` in the lower puts a link to an equal file in the place of a finished
    /// one: it can be read, by its name and by those who have it open.
    an_optimised_file,
    |fx| {
        let big = "x".repeat(3 << 20);
        fx.lower().file("obj/lib/f", "hello").file("obj/lib/big", &big);
        fx.lower().file("same/f", "hello").file("same/big", &big);
        for name in ["obj/lib/f", "obj/lib/big", "same/f", "same/big", "obj/lib", "obj"] {
            fx.lower().mtime(name, 1);
        }
        let m = mounted(fx);
        stat(&m.path("obj/lib/f"));
        let mut open = fs::File::open(m.path("obj/lib/big")).must();
        let mut start = [0; 10];
        std::io::Read::read_exact(&mut open, &mut start).must();
        for name in ["f", "big"] {
            let link = fx.lower().path("obj/lib/.tmp-link");
            fs::hard_link(fx.lower().path("same").join(name), &link).must();
            fs::rename(&link, fx.lower().path("obj/lib").join(name)).must();
        }
        fx.lower().mtime("obj/lib", 1);
        for _ in 0..3 {
            reads(&m.path("obj/lib/f"), "hello");
            reads(&m.path("obj/lib/big"), &big);
        }
        assert_eq!(std::io::read_to_string(open).must().len(), big.len() - 10);
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// A top directory that is removed is no empty one, and one that is made again at its path is
    /// found by the barrier.
    a_removed_lower,
    |fx| {
        fx.upper().file("own", "own");
        let m = watched(fx);
        lists(&m.path(""), &["obj", "old", "own"]);
        fs::remove_dir_all(fx.lower().path("")).must();
        let synced = |code| {
            let done = Command::new(program()).arg("sync").arg(m.path("")).output().must();
            assert_eq!(done.status.code(), Some(code), "{done:?}");
        };
        synced(3);
        fs::read_dir(m.path("")).and_then(|mut names| names.next().transpose()).expect_err("removed");
        reads(&m.path("own"), "own");
        fx.lower().file("again", "again");
        synced(0);
        reads(&m.path("again"), "again");
        lists(&m.path(""), &["again", "own"]);
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// Every barrier is answered, also one that comes just while the driver wakes up for a change.
    barriers_right_after_changes,
    |fx| {
        let m = watched(fx);
        for round in 0..2000 {
            fx.lower().file("flips", "").file(format!("n{}", round % 7), "");
            crate::promise::barrier(&m.path(""));
            fs::remove_file(fx.lower().path("flips")).must();
            crate::promise::barrier(&m.path(""));
        }
        fx.lower_changed_outside();
    }
);

for_each_mode!(
    /// A duplicate that vanishes takes one name of each of its files with it: `st_nlink` of the others
    /// is the truth, also of those in other directories (Nix asks it of `.links` to collect them).
    link_counts,
    |fx| {
        fx.lower().file("obj/f", "linked").mtime("obj/f", 1).mtime("obj", 1);
        fx.upper().file("obj/f", "linked").mtime("obj/f", 1);
        fx.upper().hard_link("obj/f", ".links/one").hard_link("obj/f", "other/f").mtime("obj", 1);
        let m = mounted(fx);
        let count = |name: &str| stat(&m.path(name)).nlink();
        assert_eq!((count(".links/one"), count("other/f")), (3, 3));
        fs::remove_dir_all(fx.upper().path("obj")).must();
        barrier(&m);
        assert_eq!((count(".links/one"), count("other/f"), count("obj/f")), (2, 2, 1));
        fs::remove_dir_all(fx.upper().path("other")).must();
        barrier(&m);
        assert_eq!(count(".links/one"), 1);
    }
);
