// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lower store while somebody is still filling it: what grows, changes or appears in an object
//! that is not finished shows within `lower-ttl`, whole, and never mixed with what was read before.

use crate::common::check::{Must, lists, mode_of, overwrite, reads, set_mtime, stat, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// More than the default `lower-ttl` and the moment that it takes the kernel to be told.
const SOON: Duration = Duration::from_secs(3);
const OLD: &str = "fifteen bytes.\n";
const NEW: &str = "fifteen bytes.\nand as many more, and then some\n";

/// Appends what `NEW` has beyond `OLD` to `path`.
fn grow(path: &Path) {
    let mut file = OpenOptions::new().append(true).open(path).must();
    file.write_all(&NEW.as_bytes()[OLD.len()..]).must();
}

/// Makes the lower object look finished.
fn seal(fx: &Fixture, object: &str, file: &str) {
    fx.lower().mode(file, 0o444).mtime(file, 1);
    fx.lower().mode(object, 0o555).mtime(object, 1);
}

/// Requires that `path` soon reads as `new`.
#[track_caller]
fn soon_reads(path: &Path, new: &str) {
    let mut last = Vec::new();
    let right = within(SOON, || {
        last = fs::read(path).must();
        last == new.as_bytes()
    });
    assert!(right, "still reads \"{}\"", last.escape_ascii());
}

for_each_mode!(
    /// A lower file that grows reads whole once `lower-ttl` has passed, without a NUL where the
    /// kernel had cached the end of a page; then it grows again.
    a_growing_file,
    |fx| {
        fx.lower().file("obj/grow", OLD);
        let m = fx.mount();
        reads(&m.path("obj/grow"), OLD);
        grow(&fx.lower().path("obj/grow"));
        fx.lower_changed_outside();
        soon_reads(&m.path("obj/grow"), NEW);
        assert_eq!(stat(&m.path("obj/grow")).len(), NEW.len() as u64);
        fs::write(fx.lower().path("obj/grow"), OLD).must();
        fx.lower_changed_outside();
        soon_reads(&m.path("obj/grow"), OLD);
        grow(&fx.lower().path("obj/grow"));
        fx.lower_changed_outside();
        soon_reads(&m.path("obj/grow"), NEW);
    }
);

for_each_mode!(
    /// Whoever reads once, after `lower-ttl`, gets the whole new text: the change need not have
    /// been seen before.
    a_growing_file_that_is_read_once,
    |fx| {
        fx.lower().file("obj/grow", OLD).file("grow", OLD);
        let m = fx.mount_with("lower-ttl=100ms");
        for name in ["obj/grow", "grow"] {
            reads(&m.path(name), OLD);
            grow(&fx.lower().path(name));
            fx.lower_changed_outside();
            std::thread::park_timeout(Duration::from_millis(400));
            reads(&m.path(name), NEW);
        }
    }
);

for_each_mode!(
    /// A file that was read while it was written and is sealed afterwards reads as it is now:
    /// what was cached of the unfinished one is not good for ever.
    a_file_that_grows_and_is_sealed,
    |fx| {
        fx.lower().file("obj/grow", OLD).file("flat", OLD);
        let m = fx.mount();
        for (object, file) in [("obj", "obj/grow"), ("flat", "flat")] {
            reads(&m.path(file), OLD);
            grow(&fx.lower().path(file));
            fx.lower().mode(file, 0o444).mtime(file, 1);
            if object != file {
                seal(fx, object, file);
            }
            fx.lower_changed_outside();
            soon_reads(&m.path(file), NEW);
            assert!(within(SOON, || stat(&m.path(file)).mtime() == 1), "{file}: the old time");
            assert!(within(SOON, || stat(&m.path(object)).mtime() == 1), "{object}: the old time");
            reads(&m.path(file), NEW);
        }
    }
);

for_each_mode!(
    /// A lower file that is rewritten in place, with the same size and a new time, reads as it is
    /// now.
    a_file_that_is_rewritten_in_place,
    |fx| {
        let other = "15 other bytes\n";
        assert_eq!(other.len(), OLD.len());
        fx.lower().file("obj/f", OLD).mtime("obj/f", 1000);
        let m = fx.mount();
        reads(&m.path("obj/f"), OLD);
        overwrite(&fx.lower().path("obj/f"), other).must();
        set_mtime(&fx.lower().path("obj/f"), 2000).must();
        fx.lower_changed_outside();
        soon_reads(&m.path("obj/f"), other);
        assert_eq!(stat(&m.path("obj/f")).mtime(), 2000);
    }
);

for_each_mode!(
    /// A descriptor that was opened before a lower file grew reads the whole new text too.
    a_growing_file_that_is_open,
    |fx| {
        fx.lower().file("obj/grow", OLD);
        let m = fx.mount();
        let file = File::open(m.path("obj/grow")).must();
        let read = || {
            let mut buffer = [0; 256];
            let length = file.read_at(&mut buffer, 0).must();
            buffer[..length].to_vec()
        };
        assert_eq!(read(), OLD.as_bytes());
        grow(&fx.lower().path("obj/grow"));
        fx.lower_changed_outside();
        let right = || file.metadata().must().len() > 0 && read() == NEW.as_bytes();
        assert!(within(SOON, right), "still reads \"{}\"", read().escape_ascii());
    }
);

/// A name appears in the lower side of a merged directory that the kernel has listed and kept.
fn late_name(fx: &Fixture, quiet: Duration) {
    fx.lower().file("mm/s/low", "lower");
    fx.upper().file("mm/s/up", "upper");
    std::thread::park_timeout(quiet);
    let m = fx.mount();
    for _ in 0..2 {
        lists(&m.path("mm/s"), &["low", "up"]);
    }
    fx.lower().file("mm/s/late", "late");
    fx.lower_changed_outside();
    let listed = || fs::read_dir(m.path("mm/s")).must().count() == 3;
    assert!(within(SOON, listed), "the new name is not listed");
    lists(&m.path("mm/s"), &["late", "low", "up"]);
    reads(&m.path("mm/s/late"), "late");
}

for_each_mode!(
    /// A name that appears in the lower side of a merged directory that is not finished shows in
    /// the listing, although the kernel has kept it, and by its name.
    a_name_that_appears_in_a_merged_directory,
    |fx| {
        late_name(fx, Duration::from_millis(300));
    }
);

for_each_mode!(
    /// A name that appears in an unfinished directory of the lower alone shows in the listing.
    a_name_that_appears_in_a_lower_directory,
    |fx| {
        fx.lower().file("obj/s/low", "lower");
        let m = fx.mount();
        for _ in 0..2 {
            lists(&m.path("obj/s"), &["low"]);
        }
        fx.lower().file("obj/s/late", "late");
        fx.lower_changed_outside();
        let listed = || fs::read_dir(m.path("obj/s")).must().count() == 2;
        assert!(within(SOON, listed), "the new name is not listed");
        reads(&m.path("obj/s/late"), "late");
    }
);

for_each_mode!(
    /// The top of a lower object looks finished before what is below is: a change of a child
    /// shows all the same.
    a_child_of_an_object_that_just_became_canonical,
    |fx| {
        fx.lower().file("obj/f", "lower").mode("obj/f", 0o644).file("obj/d/f", "lower");
        fx.lower().mtime("obj/f", 1000).mtime("obj/d", 1000);
        fx.lower().mode("obj", 0o555).mtime("obj", 1);
        let m = fx.mount();
        assert_eq!((mode_of(&m.path("obj")), stat(&m.path("obj")).mtime()), (0o555, 1));
        assert_eq!((mode_of(&m.path("obj/f")), stat(&m.path("obj/f")).mtime()), (0o644, 1000));
        assert_eq!(stat(&m.path("obj/d")).mtime(), 1000);
        lists(&m.path("obj/d"), &["f"]);
        fx.lower().mode("obj/f", 0o444).mtime("obj/f", 1);
        fx.lower().file("obj/d/late", "late").mode("obj/d", 0o555).mtime("obj/d", 1);
        fx.lower_changed_outside();
        let shown = |name: &str, mode| {
            let found = fs::symlink_metadata(m.path(name)).must();
            found.permissions().mode() & 0o7777 == mode && found.mtime() == 1
        };
        assert!(within(SOON, || shown("obj/f", 0o444)), "the old mode or time of the file");
        assert!(within(SOON, || shown("obj/d", 0o555)), "the old mode or time of the directory");
        let listed = || fs::read_dir(m.path("obj/d")).must().count() == 2;
        assert!(within(SOON, listed), "the old listing");
    }
);
for_each_mode!(
    /// So does one that appears in a directory whose last change was just before it was listed.
    a_name_that_appears_in_a_busy_merged_directory,
    |fx| {
        late_name(fx, Duration::ZERO);
    }
);

for_each_mode!(
    /// Nobody ever reads a NUL that was not in the file, not even in the moment in which the new
    /// size is known and the cached page is still the old one.
    a_growing_file_that_is_watched,
    |fx| {
        fx.lower().file("obj/grow", OLD);
        let m = fx.mount_with("lower-ttl=20ms");
        for _ in 0..20 {
            soon_reads(&m.path("obj/grow"), OLD);
            grow(&fx.lower().path("obj/grow"));
            fx.lower_changed_outside();
            let whole = within(SOON, || {
                let got = fs::read(m.path("obj/grow")).must();
                assert!(!got.contains(&0), "a hole: {}", got.escape_ascii());
                got == NEW.as_bytes()
            });
            assert!(whole, "the old text");
            fs::write(fx.lower().path("obj/grow"), OLD).must();
            fx.lower_changed_outside();
        }
    }
);
