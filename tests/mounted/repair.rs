// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repair: lower objects that are removed through the mount are hidden, good ones take their
//! place, and what was not replaced is back afterwards.

use crate::common::check::{Must, absent, fails, lists, mode_of, reads, stat, text};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::manifest;
use crate::common::mode::{Mode, PLAIN_ID, program};
use crate::common::mount::{MountGuard, run};
use crate::common::nix::{self, Step, tree};
use rustix::fs::{CWD, FileType, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

/// The objects, and whether the good one is a directory.
pub(crate) const OBJECTS: [(&str, bool); 6] = [
    ("dir", true),
    ("file", false),
    ("dup", true),
    ("dupfile", false),
    ("part", true),
    ("other", true),
];

/// Finished objects: of the lower alone, of both, and one that is partly in each.
pub(crate) fn layers(fx: &Fixture) {
    if fx.on_kernel() {
        fx.skip("the kernel's OverlayFS copies up");
    }
    for layer in [fx.lower(), fx.upper()] {
        layer
            .file("dup/f", "bad")
            .file("dup/sub/g", "bad")
            .file("dupfile", "bad");
    }
    let lower = fx.lower();
    lower
        .file("dir/f", "bad")
        .file("dir/sub/deep/g", "bad")
        .symlink("dir/link", "f");
    lower
        .file("file", "bad")
        .file("other", "bad")
        .file("stays", "lower");
    lower
        .file("part/low", "bad")
        .file("part/sub/low", "bad")
        .file("part/both", "bad");
    let upper = fx.upper();
    upper
        .file("part/up", "bad")
        .file("part/sub/up", "bad")
        .file("part/both", "bad");
    for layer in [lower.path(""), upper.path("")] {
        for (name, _) in OBJECTS {
            if fs::symlink_metadata(layer.join(name)).is_ok() {
                run(Command::new("chmod")
                    .args(["-R", "a-w"])
                    .arg(layer.join(name)));
            }
        }
    }
}

pub(crate) fn switch(m: &MountGuard, to: &str) {
    run(Command::new(program()).args(["repair", to]).arg(m.path("")));
}

pub(crate) fn status(m: &MountGuard) -> serde_json::Value {
    let mut command = Command::new(program());
    let output = command
        .args(["status", "--json"])
        .arg(m.path(""))
        .output()
        .must();
    serde_json::from_slice(&output.stdout).must()
}

#[track_caller]
fn do_all(steps: &[Step]) {
    for step in steps {
        if let Err(error) = step.run() {
            panic!("{step:?}: {error}");
        }
    }
}

#[track_caller]
fn is_new(m: &MountGuard, name: &str, directory: bool) {
    let found = tree(&m.path(name));
    let names: Vec<_> = found
        .keys()
        .map(|path| path.to_str().expect("ASCII"))
        .collect();
    match directory {
        true => assert_eq!(names, ["", "good", "sub", "sub/f"], "{name}"),
        false => assert_eq!(names, [""], "{name}"),
    }
    let old = found.values().any(|text| text.contains("bad"));
    assert!(!old, "{name}: something of the old object: {found:#?}");
}

/// Requires that kernel OverlayFS on the same layers shows `shown`.
fn kernel_agrees(fx: &Fixture, shown: &std::collections::BTreeMap<std::path::PathBuf, String>) {
    if !fx.mode().may_mount() {
        return;
    }
    let (merged, work) = (fx.scratch("kernel"), fx.scratch("up/work"));
    for directory in [&merged, &work] {
        fs::create_dir_all(directory).must();
    }
    let at = |name: &str| fx.scratch(name).display().to_string();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("low/lower"),
        at("up/upper"),
        at("up/work")
    );
    let kernel = MountGuard::kernel(fx.mode(), &merged, &layers);
    assert_eq!(&tree(&kernel.path("")), shown, "the kernel disagrees");
}

for_each_mode!(
    /// "Without the option: EROFS, and nothing is lost."
    off_nothing_of_the_lower_can_be_removed,
    |fx| {
        layers(fx);
        let m = fx.mount();
        let before = tree(&m.path(""));
        fails(Errno::ROFS, "chmod", fs::set_permissions(m.path("dir"), Permissions::from_mode(0o755)));
        fails(Errno::ROFS, "unlink", fs::remove_file(m.path("file")));
        fails(Errno::ROFS, "rename", fs::rename(m.path("dir"), m.path("dir.old")));
        fails(Errno::XDEV, "rename merged", fs::rename(m.path("part"), m.path("part.old")));
        fails(Errno::EXIST, "mkdir", fs::create_dir(m.path("dir")));
        if fx.mode() != Mode::user {
            // A plain user's kernel looks at the mode of the directory first.
            fails(Errno::ROFS, "unlink inside", fs::remove_file(m.path("dir/f")));
            fails(Errno::ROFS, "rmdir", fs::remove_dir(m.path("dir/sub/deep")));
        }
        assert_eq!(tree(&m.path("")), before);
        assert_eq!(status(&m)["repair"], false);
        assert_eq!(status(&m)["hidden-count"], 0);
    }
);

/// Repairs every object in one way; afterwards the new ones are there, also in a new mount, and
/// for the kernel.
fn repair_all(fx: &Fixture, way: fn(&Path, bool) -> Vec<Step>, mount: &dyn Fn() -> MountGuard) {
    layers(fx);
    let m = mount();
    for (name, directory) in OBJECTS {
        let before = tree(&m.path(name));
        assert!(
            before.len() > 1 || before.len() == 1 && !m.path(name).is_dir(),
            "{name}"
        );
        do_all(&way(&m.path(name), directory));
        is_new(&m, name, directory);
    }
    let names = ["dir", "dup", "dupfile", "file", "other", "part", "stays"];
    lists(&m.path(""), &names);
    assert_eq!(
        status(&m)["hidden-count"],
        0,
        "all were replaced: {}",
        status(&m)
    );
    switch(&m, "off");
    lists(&m.path(""), &names);
    let shown = tree(&m.path(""));
    for (name, directory) in OBJECTS {
        is_new(&m, name, directory);
    }
    drop(m);
    marked_where_needed(fx);
    kernel_agrees(fx, &shown);
    let again = fx.mount();
    assert_eq!(
        tree(&again.path("")),
        shown,
        "a new driver shows something else"
    );
}

/// Directories that hide lower ones are marked, and nothing else is: `other` hides a file.
fn marked_where_needed(fx: &Fixture) {
    let mark = fx.family().attribute("opaque");
    let mut found = manifest::markers(&fx.upper().path(""));
    found.sort();
    let wanted = ["dir", "dup", "part"].map(|name| format!("{name}: {mark}=y"));
    assert_eq!(found, wanted);
}

for_each_mode!(
    /// "deletes a corrupt lower object through the mount and writes a good one in its place".
    objects_are_deleted_and_written_anew,
    |fx| {
        repair_all(fx, nix::substitute, &|| fx.mount_with("repair"));
    }
);

for_each_mode!(
    /// The same by moving the old object away and the new one into its place, switched on live.
    objects_are_moved_away_and_replaced,
    |fx| {
        let live = || {
            let m = fx.mount();
            switch(&m, "on");
            m
        };
        repair_all(fx, nix::replace, &live);
    }
);

for_each_mode!(
    /// "A hidden name that is not replaced shows again when repair is switched off": at once, by
    /// name, in listings and with its own mode, at the top and below.
    what_was_hidden_shows_again,
    |fx| {
        layers(fx);
        let m = fx.mount_with("repair");
        let before = tree(&m.path(""));
        for round in 0..2 {
            for _ in 0..2 {
                lists(&m.path("dir"), &["f", "link", "sub"]);
                lists(&m.path("dir/sub"), &["deep"]);
            }
            for name in ["dir", "dir/sub", "dir/sub/deep"] {
                fs::set_permissions(m.path(name), Permissions::from_mode(0o755)).must();
                assert_eq!(mode_of(&m.path(name)), 0o755);
            }
            fails(Errno::NOTEMPTY, "rmdir", fs::remove_dir(m.path("dir")));
            fs::remove_file(m.path("dir/f")).must();
            fs::remove_file(m.path("dir/sub/deep/g")).must();
            fs::remove_dir(m.path("dir/sub/deep")).must();
            fs::remove_file(m.path("file")).must();
            fs::rename(m.path("other"), m.path("aside")).must();
            reads(&m.path("aside"), "bad");
            for _ in 0..2 {
                for name in ["dir/f", "dir/sub/deep", "file", "other"] {
                    absent(&m.path(name));
                }
                lists(&m.path("dir"), &["link", "sub"]);
                lists(&m.path("dir/sub"), &[]);
                lists(&m.path(""), &["aside", "dir", "dup", "dupfile", "part", "stays"]);
            }
            let told = status(&m);
            assert_eq!(told["repair"], true);
            assert_eq!(told["hidden"], serde_json::json!(["dir/f", "dir/sub/deep", "file", "other"]));
            assert_eq!(told["hidden-count"], 4);
            if round == 0 {
                switch(&m, "off");
                assert_eq!(tree(&m.path("")), before);
                lists(&m.path("dir"), &["f", "link", "sub"]);
                assert_eq!(mode_of(&m.path("dir")), 0o555);
                absent(&m.path("aside"));
                fails(Errno::ROFS, "unlink", fs::remove_file(m.path("file")));
                switch(&m, "on");
            }
        }
        let shown = Command::new(program()).arg("status").arg(m.path("")).output().must();
        assert!(text(&shown.stdout).contains("dir/sub/deep"), "{}", text(&shown.stdout));
        drop(m);
        assert_eq!(tree(&fx.mount().path("")), before, "a new driver");
    }
);

for_each_mode!(
    /// A lower file that is open when its name is hidden stays readable, as an unlinked one does;
    /// one in an object that was moved away too.
    open_files_survive,
    |fx| {
        layers(fx);
        let m = fx.mount_with("repair");
        let long = "x".repeat(1 << 20);
        fx.lower().file("long", &long).file("obj/long", &long).file("obj/late", &long);
        fx.lower().file("flat", &long);
        fx.lower_changed_outside();
        run(Command::new(program()).arg("sync").arg(m.path("")));
        let open = |name: &str| fs::File::open(m.path(name)).must();
        let whole = |file: &fs::File| {
            let mut buffer = vec![0; 2 << 20];
            let mut length = 0;
            while let count @ 1.. = file.read_at(&mut buffer[length..], length as u64).must() {
                length += count;
            }
            assert!(buffer[..length] == *long.as_bytes(), "{length} bytes");
        };
        let (flat, inside) = (open("long"), open("obj/long"));
        fs::remove_file(m.path("long")).must();
        fs::rename(m.path("obj"), m.path("obj.old")).must();
        whole(&flat);
        whole(&inside);
        fs::write(m.path("long"), "new").must();
        // Nobody has read it before its names are gone.
        let again = open("obj.old/late");
        do_all(&nix::delete(&m.path("obj.old"), &m.path("obj.old")));
        whole(&again);
        let moved = open("flat");
        fs::rename(m.path("flat"), m.path("flat.old")).must();
        fs::remove_file(m.path("flat.old")).must();
        whole(&moved);
        reads(&m.path("long"), "new");
        switch(&m, "off");
        whole(&flat);
        whole(&again);
        reads(&m.path("long"), "new");
        assert_eq!(fs::read(m.path("obj/long")).must().len(), long.len());
    }
);

for_each_mode!(
    /// What repair cannot do is refused as without it, and changes nothing.
    what_repair_cannot_do,
    |fx| {
        layers(fx);
        let m = fx.mount_with("repair");
        let before = tree(&m.path(""));
        let rename = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(CWD, m.path(from), CWD, m.path(to), flags)
        };
        fails(Errno::ROFS, "onto a name", rename("dir", "dup", RenameFlags::empty()));
        fails(Errno::ROFS, "exchange", rename("dir", "dup", RenameFlags::EXCHANGE));
        fails(Errno::EXIST, "noreplace", rename("file", "other", RenameFlags::NOREPLACE));
        fs::create_dir(m.path("own")).must();
        fails(Errno::ROFS, "into a directory", rename("file", "own/file", RenameFlags::empty()));
        fs::remove_dir(m.path("own")).must();
        fails(Errno::ROFS, "links", rename("dir", ".links", RenameFlags::empty()));
        fails(Errno::ROFS, "chmod of a file", {
            fs::set_permissions(m.path("file"), Permissions::from_mode(0o644))
        });
        fails(Errno::NOTEMPTY, "rmdir", fs::remove_dir(m.path("part")));
        assert_eq!(tree(&m.path("")), before);
        lists(&m.path("part"), &["both", "low", "sub", "up"]);
        fs::remove_file(m.path("file")).must();
        if fx.mode() == Mode::root {
            let device = rustix::fs::mknodat(CWD, m.path("file"), FileType::CharacterDevice, 0o600.into(), 0);
            fails(Errno::PERM, "a whiteout", device);
        }
        absent(&m.path("file"));
        switch(&m, "off");
        assert_eq!(tree(&m.path("")), before);
    }
);

for_each_mode!(
    /// An object that was moved away and back is what it was; its name is hidden no more.
    moved_away_and_back,
    |fx| {
        layers(fx);
        let m = fx.mount_with("repair");
        let before = tree(&m.path(""));
        for (name, _) in OBJECTS {
            let old = format!("{name}.old");
            let content = tree(&m.path(name));
            fs::rename(m.path(name), m.path(&old)).must();
            absent(&m.path(name));
            assert_eq!(tree(&m.path(&old)), content, "{name}");
            let other = format!("{name}.other");
            fs::rename(m.path(&old), m.path(&other)).must();
            assert_eq!(tree(&m.path(&other)), content, "{name}");
            fs::rename(m.path(&other), m.path(name)).must();
        }
        assert_eq!(tree(&m.path("")), before);
        // Of a file in both layers it is the upper's that moved, over the hidden one.
        assert_eq!(status(&m)["hidden-count"], 0, "{}", status(&m));
    }
);

for_each_mode!(
    /// In one directory, below the top: a new directory where a lower one was hidden is opaque too.
    directories_below_the_top,
    |fx| {
        layers(fx);
        fx.upper().mode("part", 0o755).mode("part/sub", 0o755);
        let m = fx.mount_with("repair");
        fx.will_be_opaque("part/sub");
        do_all(&nix::delete(&m.path("part/sub"), &m.path("part/sub")));
        absent(&m.path("part/sub"));
        lists(&m.path("part"), &["both", "low", "up"]);
        fs::create_dir(m.path("part/sub")).must();
        lists(&m.path("part/sub"), &[]);
        fs::set_permissions(m.path("part/sub"), Permissions::from_mode(0o751)).must();
        switch(&m, "off");
        lists(&m.path("part/sub"), &[]);
        assert_eq!(mode_of(&m.path("part/sub")), 0o751);
    }
);

for_each_mode!(
    /// What the driver leaves behind when it is killed while it makes a directory is never shown,
    /// cannot be made or reached, and is gone with the next mount.
    left_overs_are_removed,
    |fx| {
        layers(fx);
        let at = |name: &str| fx.upper().path(name);
        let m = fx.mount_with("repair");
        fs::create_dir(at(".overstore-new-0")).must();
        fs::write(at(".overstore-new-x"), "a user's own").must();
        run(Command::new(program()).arg("sync").arg(m.path("")));
        absent(&m.path(".overstore-new-0"));
        fails(Errno::PERM, "mkdir", fs::create_dir(m.path(".overstore-new-1")));
        fails(Errno::PERM, "rename", fs::rename(m.path("dupfile"), m.path(".overstore-new-1")));
        lists(&m.path(""), &["dir", "dup", "dupfile", "file", "other", "part", "stays"]);
        do_all(&nix::substitute(&m.path("dir"), true));
        is_new(&m, "dir", true);
        m.crash();
        let m = fx.mount();
        fails(Errno::NOENT, "left", fs::symlink_metadata(at(".overstore-new-0")));
        stat(&at(".overstore-new-x"));
        is_new(&m, "dir", true);
    }
);

fn tried(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

for_each_mode!(
    /// Root and the driver's own user switch repair; a stranger may not.
    strangers_may_not_switch,
    [root],
    |fx| {
        layers(fx);
        let m = fx.mount();
        let script = format!("{} repair on {}", program().display(), m.path("").display());
        let (code, said) = tried(&fx.shell_as(PLAIN_ID, PLAIN_ID, &script));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("not permitted") && said.lines().count() == 1, "{said}");
        assert_eq!(status(&m)["repair"], false);
    }
);

for_each_mode!(
    /// On a read-only view repair is refused with the reason; elsewhere the answer is no.
    where_repair_cannot_be,
    |fx| {
        layers(fx);
        let m = fx.mount_with("ro,repair");
        assert_eq!(status(&m)["repair"], false);
        let ask = |path: &Path| {
            let mut command = Command::new(program());
            tried(&command.args(["repair", "on"]).arg(path).output().must())
        };
        let (code, said) = ask(&m.path(""));
        assert_eq!((code, said.contains("read-only")), (Some(3), true), "{said}");
        let (code, said) = ask(&fx.scratch("up"));
        assert_eq!((code, said.contains("no overstore driver")), (Some(1), true), "{said}");
    }
);
