// SPDX-License-Identifier: MIT OR Apache-2.0
//! A selection of the semantics that runs in a moment, for any pair of filesystems: two trees and
//! a list of checks, each of which leaves the trees as it found them.

use crate::common::check::{
    Must, absent, attributes, fails, kind_of, listed_numbers_are_true, lists, mode_of, overwrite,
    reads, set_mtime, stat,
};
use crate::common::fixture::Fixture;
use crate::common::layer::LayerBuilder;
use crate::common::mount::MountGuard;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

/// One check on a mounted pair of trees.
pub(crate) type Check = fn(&Fixture, &MountGuard);

/// The checks, by name.
pub(crate) const CHECKS: [(&str, Check); 11] = [
    ("what is shown", shown),
    ("content of big files", content),
    ("numbers", numbers),
    ("hard links", hard_links),
    ("listing of many names", many_names),
    ("making and removing", making),
    ("changing", changing),
    ("refusals", refusals),
    ("moving", moving),
    ("open files", open_files),
    ("attributes", no_markers),
];

/// How many names the big directory has in each layer.
const MANY: usize = 700;
/// Longer than any block, inline or compressed cluster, and not a multiple of one.
const BIG: usize = 1_000_003;

/// Bytes that do not compress to nothing and differ at every offset that matters.
fn big(seed: usize) -> Vec<u8> {
    (0..BIG)
        .map(|n| ((n * 31 + n / 251 + seed) % 253) as u8)
        .collect()
}

/// Writes the lower tree.
pub(crate) fn lower_tree(layer: &LayerBuilder) {
    layer
        .file("a-first", "lower")
        .file("f", "lower")
        .file("g", "lower")
        .file("empty", "");
    layer
        .file("d/low", "lower")
        .file("d/both", "lower")
        .file("d/deep/low", "lower");
    layer
        .file("only/f", "lower")
        .symlink("only/s", "f")
        .file("hidden/f", "lower");
    layer
        .file("gone", "lower")
        .file("d/gone", "lower")
        .file("big-low", big(1))
        .symlink("s", "lower");
    layer
        .file("h/one", "linked")
        .hard_link("h/one", "h/two")
        .fifo("only/p")
        .file(".links/x", "lower");
    layer
        .file("only/ro", "lower")
        .mode("only/ro", 0o444)
        .mtime("only/ro", 1);
    for number in 0..MANY {
        layer.file(format!("many/low-{number}"), "");
    }
}

/// Writes the upper tree.
pub(crate) fn upper_tree(layer: &LayerBuilder) {
    layer
        .file("f", "upper")
        .file("u", "upper")
        .file("d/up", "upper")
        .file("d/both", "upper");
    layer
        .file("d/deep/up", "upper")
        .opaque("hidden")
        .file("hidden/g", "upper")
        .whiteout("gone");
    layer
        .whiteout("d/gone")
        .file("big-up", big(2))
        .file("v/w/x", "upper");
    for number in 0..MANY {
        layer.file(format!("many/up-{number}"), "");
    }
}

fn shown(_: &Fixture, m: &MountGuard) {
    let top = [
        "a-first", "big-low", "big-up", "d", "empty", "f", "g", "h", "hidden", "many", "only", "s",
        "u", "v",
    ];
    lists(&m.path(""), &top);
    lists(&m.path("d"), &["both", "deep", "low", "up"]);
    lists(&m.path("d/deep"), &["low", "up"]);
    lists(&m.path("hidden"), &["g"]);
    for (name, text) in [
        ("a-first", "lower"),
        ("f", "upper"),
        ("g", "lower"),
        ("empty", ""),
        ("d/both", "upper"),
    ] {
        reads(&m.path(name), text);
    }
    for name in ["gone", "d/gone", "hidden/f", ".links", "nothing"] {
        absent(&m.path(name));
    }
    assert_eq!(kind_of(&m.path("only/p")), Some("fifo"));
    assert_eq!(fs::read_link(m.path("only/s")).must().to_str(), Some("f"));
    let ro = stat(&m.path("only/ro"));
    assert_eq!((ro.mode() & 0o7777, ro.mtime(), ro.len()), (0o444, 1, 5));
}

fn content(_: &Fixture, m: &MountGuard) {
    for (name, seed) in [("big-low", 1), ("big-up", 2)] {
        let want = big(seed);
        assert!(fs::read(m.path(name)).must() == want, "{name}");
        let mut part = [0; 4097];
        File::open(m.path(name))
            .must()
            .read_exact_at(&mut part, 500_001)
            .must();
        assert!(part[..] == want[500_001..504_098], "{name} in the middle");
    }
}

/// Low bits are the backing number; where both layers share a filesystem there are no others.
fn numbers(fx: &Fixture, m: &MountGuard) {
    listed_numbers_are_true(&m.path(""));
    let (upper, lower) = (fx.upper(), fx.lower());
    let one = stat(&upper.path("f")).dev() == stat(&lower.path("f")).dev();
    let device = stat(&m.path("")).dev();
    for (layer, name) in [
        (&lower, "a-first"),
        (&lower, "only"),
        (&lower, "only/f"),
        (&upper, "f"),
        (&upper, "v"),
        (&upper, "v/w/x"),
        (&lower, "only/s"),
        (&lower, "big-low"),
    ] {
        let (found, backing) = (stat(&m.path(name)), stat(&layer.path(name)));
        assert_eq!(found.dev(), device, "st_dev of {name}");
        let mask = if one { u64::MAX } else { u64::from(u32::MAX) };
        assert_eq!(found.ino() & mask, backing.ino() & mask, "st_ino of {name}");
        assert_eq!(found.nlink(), backing.nlink(), "st_nlink of {name}");
    }
}

fn hard_links(_: &Fixture, m: &MountGuard) {
    assert_eq!(stat(&m.path("h/one")).ino(), stat(&m.path("h/two")).ino());
    assert_eq!(stat(&m.path("h/one")).nlink(), 2);
    fs::hard_link(m.path("u"), m.path("v/link")).must();
    assert_eq!(stat(&m.path("u")).nlink(), 2);
    overwrite(&m.path("v/link"), "UPPER").must();
    reads(&m.path("u"), "UPPER");
    fs::remove_file(m.path("v/link")).must();
    overwrite(&m.path("u"), "upper").must();
    assert_eq!(stat(&m.path("u")).nlink(), 1);
    fails(
        Errno::XDEV,
        "link of the lower",
        fs::hard_link(m.path("g"), m.path("v/link")),
    );
}

fn many_names(_: &Fixture, m: &MountGuard) {
    let mut kinds = HashMap::new();
    for (name, kind) in crate::common::check::listing(&m.path("many")) {
        kinds.insert(name, kind);
    }
    assert_eq!(kinds.len(), 2 * MANY);
    assert!(kinds.values().all(|kind| *kind == "file"));
}

fn making(fx: &Fixture, m: &MountGuard) {
    for parent in ["", "d", "v", "d/deep"] {
        let path = m.path(parent).join("new");
        fs::create_dir(&path).must();
        fs::write(path.join("file"), "new").must();
        std::os::unix::fs::symlink("file", path.join("link")).must();
        reads(&path.join("link"), "new");
        reads(&fx.upper().path(parent).join("new/file"), "new");
        assert_eq!(
            stat(&path).ino() & 0xffff_ffff,
            stat(&fx.upper().path(parent).join("new")).ino() & 0xffff_ffff
        );
        fs::remove_dir_all(&path).must();
        absent(&path);
        absent(&fx.upper().path(parent).join("new"));
    }
    // The upper copy goes, the lower one shows again; then the copy comes back.
    fs::rename(m.path("f"), m.path("f-away")).must();
    reads(&m.path("f"), "lower");
    fs::remove_file(m.path("f-away")).must();
    fx.upper().file("f", "upper");
    let back = || fs::read(m.path("f")).is_ok_and(|bytes| bytes == b"upper");
    assert!(crate::common::check::within(
        std::time::Duration::from_secs(3),
        back
    ));
}

fn changing(fx: &Fixture, m: &MountGuard) {
    let path = m.path("v/new");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&path)
        .must();
    file.write_all(b"content").must();
    file.set_len(3).must();
    drop(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).must();
    set_mtime(&path, 1).must();
    let (merged, upper) = (stat(&path), stat(&fx.upper().path("v/new")));
    for found in [merged, upper] {
        assert_eq!(
            (found.mode() & 0o7777, found.mtime(), found.len()),
            (0o640, 1, 3)
        );
    }
    let bytes = big(3);
    fs::write(&path, &bytes).must();
    assert!(fs::read(fx.upper().path("v/new")).must() == bytes);
    fs::remove_file(&path).must();
    let before = mode_of(&m.path("d"));
    fs::set_permissions(m.path("d"), fs::Permissions::from_mode(0o711)).must();
    assert_eq!(mode_of(&fx.upper().path("d")), 0o711);
    fs::set_permissions(m.path("d"), fs::Permissions::from_mode(before)).must();
}

fn refusals(_: &Fixture, m: &MountGuard) {
    fails(Errno::ROFS, "write", overwrite(&m.path("g"), "x"));
    fails(Errno::ROFS, "truncate", File::create(m.path("g")));
    fails(
        Errno::ROFS,
        "chmod",
        fs::set_permissions(m.path("g"), fs::Permissions::from_mode(0o600)),
    );
    fails(Errno::ROFS, "utimens", set_mtime(&m.path("only"), 1));
    fails(Errno::ROFS, "create", File::create_new(m.path("only/new")));
    fails(Errno::ROFS, "mkdir", fs::create_dir(m.path("only/new")));
    fails(Errno::ROFS, "unlink", fs::remove_file(m.path("g")));
    fails(Errno::ROFS, "rmdir", fs::remove_dir(m.path("only")));
    fails(
        Errno::ROFS,
        "rename away",
        fs::rename(m.path("g"), m.path("new")),
    );
    fails(
        Errno::ROFS,
        "rename onto",
        fs::rename(m.path("u"), m.path("g")),
    );
    fails(
        Errno::XDEV,
        "rename a merged directory",
        fs::rename(m.path("d"), m.path("new")),
    );
    fails(
        Errno::NOTEMPTY,
        "rmdir of a merged directory",
        fs::remove_dir(m.path("d")),
    );
    fails(
        Errno::EXIST,
        "mkdir over the lower",
        fs::create_dir(m.path("g")),
    );
    let file = OpenOptions::new().write(true).open(m.path("g")).must();
    let flags = rustix::fs::FallocateFlags::empty();
    fails(
        Errno::ROFS,
        "fallocate",
        rustix::fs::fallocate(&file, flags, 0, 100),
    );
    reads(&m.path("g"), "lower");
}

fn moving(fx: &Fixture, m: &MountGuard) {
    let swap =
        |a, b| rustix::fs::renameat_with(CWD, m.path(a), CWD, m.path(b), RenameFlags::EXCHANGE);
    swap("u", "v").must();
    reads(&m.path("v"), "upper");
    reads(&m.path("u/w/x"), "upper");
    swap("u", "v").must();
    fs::rename(m.path("v/w"), m.path("d/w")).must();
    reads(&fx.upper().path("d/w/x"), "upper");
    let keep = RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(CWD, m.path("d/w"), CWD, m.path("v/w"), keep).must();
    let onto = rustix::fs::renameat_with(CWD, m.path("u"), CWD, m.path("g"), keep);
    fails(Errno::EXIST, "NOREPLACE onto the lower", onto);
    reads(&m.path("v/w/x"), "upper");
}

fn open_files(_: &Fixture, m: &MountGuard) {
    let path = m.path("v/open");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .must();
    file.write_all(b"before").must();
    fs::remove_file(&path).must();
    fs::write(&path, "another").must();
    file.write_all(b" after").must();
    file.rewind().must();
    let mut text = String::new();
    file.read_to_string(&mut text).must();
    assert_eq!(
        (text.as_str(), file.metadata().must().nlink()),
        ("before after", 0)
    );
    reads(&path, "another");
    fs::remove_file(&path).must();
}

fn no_markers(_: &Fixture, m: &MountGuard) {
    for name in ["hidden", "d", "f", "g"] {
        match attributes(&m.path(name)) {
            Ok(names) => assert!(names.is_empty(), "{name}: {names:?}"),
            error => fails(Errno::OPNOTSUPP, "list", error),
        }
    }
}
