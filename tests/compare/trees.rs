// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two plain directories that differ in one thing: each kind of difference is told, and no other.

use crate::common::check::{Must, set_mtime};
use crate::common::for_each_mode;
use overstore::compare::{Options, Report, What, trees};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const OPTIONS: Options = Options {
    strict: false,
    threads: 2,
};

/// Makes one of two equal trees.
fn build(root: &Path) {
    fs::create_dir_all(root.join("d/e")).must();
    for name in ["f", "d/f", "d/e/f", "linked"] {
        fs::write(root.join(name), "content").must();
    }
    fs::hard_link(root.join("linked"), root.join("d/linked")).must();
    symlink("f", root.join("s")).must();
    rustix::fs::mknodat(CWD, root.join("p"), FileType::Fifo, Mode::RWXU, 0).must();
    fs::write(root.join(OsStr::from_bytes(b"odd\n\xff")), "odd").must();
}

/// Sets one time on everything, so that a change is of one thing alone.
fn settle(path: &Path) {
    let found = fs::symlink_metadata(path).must();
    if found.is_dir() {
        for entry in fs::read_dir(path).must() {
            settle(&entry.must().path());
        }
    }
    set_mtime(path, 1).must();
}

/// A directory that goes with all that is in it, also with what its user has locked himself out of.
struct Scratch(tempfile::TempDir);

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut open = Command::new("chmod");
        drop(open.args(["-R", "u+rwx"]).arg(self.0.path()).status());
    }
}

fn compared(left: impl Fn(&Path), right: impl Fn(&Path)) -> Report {
    let scratch = Scratch(tempfile::tempdir().must());
    let [fuse, kernel] = ["fuse", "kernel"].map(|name| scratch.0.path().join(name));
    build(&fuse);
    build(&kernel);
    settle(&fuse);
    settle(&kernel);
    left(&fuse);
    right(&kernel);
    trees(&fuse, &kernel, OPTIONS).expect("both can be read")
}

/// Requires that a change on either side is told as these differences.
#[track_caller]
fn tells(change: impl Fn(&Path), expected: &[(&str, What)]) {
    for mirrored in [false, true] {
        let nothing = |_: &Path| {};
        let report = match mirrored {
            false => compared(&change, nothing),
            true => compared(nothing, &change),
        };
        let told: Vec<_> = report
            .differences
            .iter()
            .map(|it| (it.path.escape_ascii().to_string(), it.what))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, what)| ((*path).to_owned(), *what))
            .collect();
        assert_eq!(told, expected, "{report:#?}");
        assert!(!report.is_equal());
    }
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(bits)).must();
}

#[test]
fn equal_trees_are_equal() {
    let report = compared(|_| {}, |_| {});
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!((report.objects, report.files, report.bytes), (11, 6, 38));
}

#[test]
fn presence() {
    let change = |root: &Path| {
        fs::remove_file(root.join("d/e/f")).must();
        settle(root);
    };
    tells(change, &[("d/e/f", What::Presence)]);
    let change = |root: &Path| {
        fs::create_dir(root.join("new")).must();
        fs::write(root.join("new/below"), "is not told").must();
        settle(root);
    };
    tells(change, &[("new", What::Presence)]);
}

#[test]
fn odd_names_are_told_apart() {
    let change = |root: &Path| {
        fs::write(root.join(OsStr::from_bytes(b"odd\n\xff")), "ODD").must();
        settle(root);
    };
    tells(change, &[("odd\\n\\xff", What::Content)]);
}

#[test]
fn kind() {
    let change = |root: &Path| {
        fs::remove_file(root.join("d/f")).must();
        fs::create_dir(root.join("d/f")).must();
        settle(root);
    };
    tells(change, &[("d/f", What::Type)]);
}

#[test]
fn permission_bits_and_the_errors_that_follow() {
    let change = |root: &Path| mode(&root.join("d/f"), 0o755);
    tells(change, &[("d/f", What::Mode), ("d/f", What::Errno)]);
    let change = |root: &Path| mode(&root.join("d"), 0o2755);
    tells(change, &[("d", What::Mode)]);
    let change = |root: &Path| mode(root, 0o700);
    tells(change, &[("", What::Mode)]);
}

for_each_mode!(owner, [root], |_fx| {
    let change = |root: &Path| {
        std::os::unix::fs::lchown(root.join("s"), Some(1), None).must();
    };
    tells(change, &[("s", What::Owner)]);
    let change = |root: &Path| {
        std::os::unix::fs::lchown(root.join("d/e"), None, Some(1)).must();
    };
    tells(change, &[("d/e", What::Owner)]);
});

#[test]
fn modification_time_to_the_nanosecond() {
    let change = |root: &Path| {
        let time = |tv_nsec| rustix::fs::Timespec { tv_sec: 1, tv_nsec };
        let times = rustix::fs::Timestamps {
            last_access: time(rustix::fs::UTIME_OMIT),
            last_modification: time(1),
        };
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(CWD, root.join("d/e"), &times, flags).must();
    };
    tells(change, &[("d/e", What::Mtime)]);
}

#[test]
fn size_and_content() {
    let change = |root: &Path| {
        fs::write(root.join("f"), "content, and more").must();
        settle(root);
    };
    tells(change, &[("f", What::Size), ("f", What::Content)]);
    let change = |root: &Path| {
        fs::write(root.join("f"), "CONTENT").must();
        settle(root);
    };
    tells(change, &[("f", What::Content)]);
}

#[test]
fn link_counts() {
    let change = |root: &Path| {
        let outside = root
            .parent()
            .expect("a scratch directory")
            .join("other-name");
        fs::hard_link(root.join("f"), outside).must();
    };
    tells(change, &[("f", What::Links)]);
}

#[test]
fn which_names_are_one_object() {
    // Two pairs of links on both sides, paired otherwise.
    let links = |root: &Path, one: [&str; 2], other: [&str; 2]| {
        for [from, to] in [one, other] {
            fs::write(root.join(from), "same").must();
            fs::hard_link(root.join(from), root.join(to)).must();
        }
        settle(root);
    };
    let report = compared(
        |root| links(root, ["a", "b"], ["c", "e"]),
        |root| links(root, ["a", "c"], ["b", "e"]),
    );
    let lines: Vec<_> = report
        .differences
        .iter()
        .map(|it| {
            let path = it.path.escape_ascii();
            format!("{path}: {}: {}, {}", it.what.word(), it.fuse, it.kernel)
        })
        .collect();
    let expected = [
        "a: hard-links: the same as b, the same as c",
        "b: hard-links: the same as a, the same as e",
        "c: hard-links: the same as e, the same as a",
        "e: hard-links: the same as c, the same as b",
    ];
    assert_eq!(lines, expected, "{report:#?}");
    let same = |root: &Path| links(root, ["a", "b"], ["c", "e"]);
    assert!(compared(same, same).is_equal());
}

#[test]
fn target_of_a_symlink() {
    let change = |root: &Path| {
        fs::remove_file(root.join("s")).must();
        symlink("d", root.join("s")).must();
        settle(root);
    };
    tells(change, &[("s", What::Target)]);
}

for_each_mode!(device_numbers, [root], |_fx| {
    let device = |minor| {
        move |root: &Path| {
            let number = rustix::fs::makedev(1, minor);
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, root.join("null"), kind, Mode::RWXU, number).must();
            settle(root);
        }
    };
    let report = compared(device(3), device(5));
    let told: Vec<_> = report.differences.iter().map(|it| it.what).collect();
    assert_eq!(told, [What::Device], "{report:#?}");
    assert_eq!(report.differences[0].fuse.to_string(), "1/3");
});

#[test]
fn extended_attributes() {
    let change = |root: &Path| {
        let path = root.join("d/f");
        rustix::fs::setxattr(path, "user.a", b"1", XattrFlags::empty()).must();
    };
    tells(change, &[("d/f", What::Xattr)]);
    let valued = |value: &'static [u8]| {
        move |root: &Path| {
            rustix::fs::setxattr(root.join("d"), "user.a", value, XattrFlags::empty()).must();
        }
    };
    let report = compared(valued(b"1"), valued(b"\xff"));
    let difference = &report.differences[..];
    assert_eq!(difference.len(), 1, "{report:#?}");
    assert_eq!(difference[0].detail.as_deref(), Some("user.a"));
    assert_eq!(difference[0].kernel.to_string(), "\"\\xff\"");
    let long: &'static [u8] = &[b'x'; 2000];
    assert!(compared(valued(long), valued(long)).is_equal());
}

for_each_mode!(what_both_refuse_is_equal_and_counted, [user], |_fx| {
    let close = |root: &Path| {
        mode(&root.join("d/f"), 0);
        mode(&root.join("d/e"), 0);
    };
    let report = compared(close, close);
    assert!(report.is_equal(), "{report:#?}");
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|it| (it.operation, it.errno.as_str(), it.tally.count))
        .collect();
    assert_eq!(refused, [("list", "EACCES", 1), ("read", "EACCES", 1)]);
    let report = compared(close, |_| {});
    let told: Vec<_> = report.differences.iter().map(|it| it.what).collect();
    assert!(
        told.contains(&What::Listing) && told.contains(&What::Content),
        "{report:#?}"
    );
});

#[test]
fn deep_trees_and_many_names() {
    let deep = |depth: usize, last: &'static str| {
        move |root: &Path| {
            let top = root.join("deep");
            fs::create_dir(&top).must();
            let mut dir = fs::File::open(&top).must();
            for _ in 0..depth {
                rustix::fs::mkdirat(&dir, "a-directory", Mode::RWXU).must();
                let flags = rustix::fs::OFlags::DIRECTORY;
                let next = rustix::fs::openat(&dir, "a-directory", flags, Mode::empty()).must();
                let file = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                rustix::fs::openat(&dir, "z-after", file, Mode::RWXU).must();
                dir = next.into();
            }
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            let file = rustix::fs::openat(&dir, "f", flags, Mode::RWXU).must();
            rustix::io::write(&file, last.as_bytes()).must();
        }
    };
    let content = |report: &Report| {
        let all = report.differences.iter();
        all.filter(|it| it.what == What::Content).count()
    };
    // Longer than a path may be; more levels than are kept open.
    let report = compared(deep(500, "one"), deep(500, "two"));
    assert_eq!(content(&report), 1);
    assert_eq!(report.objects, 11 + 1 + 500 * 2 + 1);
    assert_eq!(content(&compared(deep(500, "one"), deep(500, "one"))), 0);
}

#[test]
fn the_order_is_by_path_whoever_is_done_first() {
    let many = |content: &'static str| {
        move |root: &Path| {
            for number in 0..200 {
                fs::write(root.join(format!("n{number:03}")), content).must();
            }
            settle(root);
        }
    };
    let reports: Vec<_> = (0..3).map(|_| compared(many("x"), many("y"))).collect();
    let paths: Vec<_> = reports[0].differences.iter().map(|it| &it.path).collect();
    assert!(paths.is_sorted() && paths.len() == 200);
    assert!(reports.windows(2).all(|two| {
        two[0]
            .differences
            .iter()
            .map(|it| &it.path)
            .eq(two[1].differences.iter().map(|it| &it.path))
    }));
}

#[test]
fn names_in_one_tree_alone_do_not_shift_the_others() {
    let change = |root: &Path| {
        for name in ["0", "e", "zz"] {
            fs::write(root.join(name), "x").must();
        }
        settle(root);
    };
    let all = ["0", "e", "zz"].map(|name| (name, What::Presence));
    tells(change, &all);
}
