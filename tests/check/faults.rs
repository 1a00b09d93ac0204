// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of faults: each is made, found alone, and mended by its own command.

use super::world::{Checked, GARBAGE, LIB, NEW, OTHER, TWICE, World, can_mount};

/// What breaks a good layout, and as what it is found.
struct Case {
    name: &'static str,
    /// A script; `$M` is the merged directory, `$URL` the store.
    broken_by: String,
    ids: &'static [&'static str],
}

fn case(name: &'static str, ids: &'static [&'static str], broken_by: impl Into<String>) -> Case {
    Case {
        name,
        broken_by: broken_by.into(),
        ids,
    }
}

/// Runs every case in a layout of its own.
fn run(cases: &[Case]) {
    if !can_mount() {
        return;
    }
    for case in cases {
        let world = World::mounted();
        judge(&world, case);
    }
}

#[track_caller]
fn judge(world: &World, case: &Case) {
    let Case { name, .. } = case;
    world.check().assert_clean(&format!("{name}: before"));
    world.must(&case.broken_by);
    let broken = world.check();
    assert_eq!(
        broken.ids(),
        case.ids,
        "{name}: {:#}",
        broken.report["faults"]
    );
    assert_eq!(broken.code, Some(1), "{name}");
    for fault in broken.report["faults"].as_array().unwrap() {
        for part in ["path", "what", "means"] {
            assert!(
                !fault[part].as_str().unwrap().is_empty(),
                "{name}: {fault:#}"
            );
        }
    }
    mend(world, name, &broken);
    world.check().assert_clean(&format!("{name}: after"));
}

#[track_caller]
fn mend(world: &World, name: &str, broken: &Checked) {
    let commands = broken.mends();
    assert_eq!(commands.len(), broken.ids().len(), "{name}: {commands:?}");
    for command in commands {
        world.must(&command);
    }
}

#[test]
fn the_mount() {
    let overlay = "overstore umount $M && mkdir -p u.work && mount -t overlay -o \
        lowerdir=$PWD/l/nix/store,upperdir=$PWD/u,workdir=$PWD/u.work";
    let driver = "pid=$(overstore status --json $M | sed -n 's/ *\"pid\": \\([0-9]*\\).*/\\1/p')";
    run(&[
        case("not mounted", &["not-mounted"], "overstore umount $M"),
        case(
            "a tmpfs",
            &["other-mount"],
            "overstore umount $M && mount -t tmpfs tmpfs $M",
        ),
        case("source", &["other-mount"], format!("{overlay} other $M")),
        case(
            "layers",
            &["other-layers"],
            "overstore umount $M && mkdir l2 && overstore mount -o lowerdir=$PWD/l2,upperdir=$PWD/u $M",
        ),
        case("covered", &["hidden"], "mount -t tmpfs overlay $M"),
        case(
            "covered from above",
            &["hidden"],
            "mount -t tmpfs tmpfs $PWD/root",
        ),
        case(
            "dead",
            &["driver-dead"],
            format!("{driver} && kill -KILL $pid && sleep 0.2"),
        ),
        case(
            "options",
            &["kernel-options"],
            format!("{overlay},redirect_dir=on overlay $M"),
        ),
    ]);
}

/// In a namespace of its own, since the command needs the kernel's list of connections.
#[test]
fn a_driver_that_hangs() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    let script = "mount --make-rprivate /; mount -t fusectl fusectl /sys/fs/fuse/connections
        overstore mount \"$URL\"
        pid=$(overstore status --json $M | sed -n 's/ *\"pid\": \\([0-9]*\\).*/\\1/p')
        kill -STOP $pid; trap 'kill -KILL $pid' EXIT
        overstore check --json \"$URL\" >broken || true
        sed -n 's/^ *\"mend\": \"\\(.*\\)\",$/\\1/p' broken >mend
        bash -e mend
        overstore check --json \"$URL\" >mended || true
        overstore umount $M; kill -KILL $pid";
    let mut inside = world.shell("exec timeout 100 unshare -m bash -c \"$SCRIPT\"");
    let output = inside.env("SCRIPT", script).output().unwrap();
    let read = |name: &str| -> serde_json::Value {
        let text = std::fs::read(world.path(name)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|why| panic!("{why}: {output:?}"))
    };
    let broken = read("broken");
    assert_eq!(broken["faults"][0]["id"], "driver-hung", "{broken:#}");
    assert_eq!(
        broken["faults"].as_array().map(Vec::len),
        Some(1),
        "{broken:#}"
    );
    let mended = read("mended");
    assert_eq!(mended["faults"], serde_json::json!([]), "{output:?}");
}

/// The kernel lists real paths, and Nix compares words.
#[test]
fn another_spelling() {
    if !can_mount() {
        return;
    }
    let world = World::new("s");
    world.must("overstore mount \"$URL\"");
    let broken_by = "overstore umount $M && overstore mount --backend kernel \"$URL\"";
    judge(&world, &case("symlink", &["check-mount"], broken_by));
}

#[test]
fn whiteouts() {
    run(&[
        case("top", &["whiteout"], format!("mknod u/{LIB} c 0 0")),
        case(
            "inside",
            &["whiteout"],
            format!(
                "chmod u+w u/{TWICE} && rm u/{TWICE}/file && mknod u/{TWICE}/file c 0 0 && chmod a-w u/{TWICE} && touch -d @1 u/{TWICE}"
            ),
        ),
        case(
            "stray at the top",
            &["stray-whiteout"],
            "mknod u/x c 0 0 && mknod u/.links c 0 0 && rm u/.links",
        ),
        case(
            "stray inside",
            &["stray-whiteout"],
            format!("mknod u/{NEW}/x c 0 0 && mknod u/{NEW}/y c 0 0 && touch -d @1 u/{NEW}"),
        ),
        case(
            "in .links",
            &["whiteout"],
            "mkdir l/nix/store/.links u/.links && touch l/nix/store/.links/x && mknod u/.links/x c 0 0",
        ),
        case(
            "by the kernel",
            &["whiteout"],
            format!(
                "overstore umount $M && overstore mount --backend kernel \"$URL\" && rm -r $M/{GARBAGE}"
            ),
        ),
    ]);
}

#[test]
fn opaque_directories() {
    run(&[
        case(
            "inside",
            &["opaque"],
            format!("setfattr -n trusted.overlay.opaque -v y u/{TWICE}/sub"),
        ),
        case(
            "garbage",
            &["opaque"],
            format!("mkdir u/{GARBAGE} && setfattr -n trusted.overlay.opaque -v y u/{GARBAGE}"),
        ),
        case(
            "of a user namespace",
            &["opaque"],
            format!("setfattr -n user.overlay.opaque -v y u/{TWICE}/sub"),
        ),
        case(
            "the upper itself",
            &["opaque"],
            "setfattr -n trusted.overlay.opaque -v y u",
        ),
    ]);
}

/// What the kernel marks to save itself a lookup, and what repair has replaced, is as it should be.
#[test]
fn opaque_directories_that_are_no_fault() {
    if !can_mount() {
        return;
    }
    for broken_by in [
        format!("setfattr -n trusted.overlay.opaque -v y u/{TWICE}"),
        format!("setfattr -n trusted.overlay.opaque -v y u/{NEW}"),
        "overstore umount $M && overstore mount --backend kernel \"$URL\" && mkdir $M/built"
            .to_owned(),
    ] {
        let world = World::mounted();
        world.must(&broken_by);
        world.check().assert_clean(&broken_by);
    }
}

#[test]
fn copies() {
    run(&[
        case(
            "by the kernel",
            &["copied-up"],
            format!(
                "overstore umount $M && overstore mount --backend kernel \"$URL\" && touch $M/{OTHER}/file"
            ),
        ),
        case(
            "marks of an own object",
            &["copied-up"],
            format!(
                "setfattr -n user.overlay.origin -v x u/{NEW}/file && setfattr -n trusted.overlay.impure -v y u/{NEW}"
            ),
        ),
        case(
            "marks of a duplicate",
            &["copied-up"],
            format!("setfattr -n trusted.overlay.origin -v x u/{TWICE}/file"),
        ),
        case(
            "marks of the upper",
            &["copied-up"],
            "setfattr -n trusted.overlay.origin -v x u",
        ),
    ]);
}

/// Data that is elsewhere is nothing that a command brings back.
#[test]
fn data_elsewhere_has_no_command() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    world.must(&format!(
        "setfattr -n trusted.overlay.metacopy u/{NEW}/file"
    ));
    let broken = world.check();
    assert_eq!(broken.ids(), ["copied-up"]);
    assert!(broken.mends().is_empty(), "{:?}", broken.mends());
}

#[test]
fn shadows() {
    run(&[
        case(
            "directory",
            &["shadow"],
            format!("cp -r l/nix/store/{OTHER} u/ && chmod u-w u/{OTHER}"),
        ),
        case("file", &["shadow"], format!("echo junk >u/{OTHER}")),
        case("symlink", &["shadow"], format!("ln -s /none u/{OTHER}")),
        case(
            "on the kernel",
            &["shadow"],
            format!(
                "overstore umount $M && overstore mount --backend kernel \"$URL\" && mkdir u/{OTHER}"
            ),
        ),
    ]);
}

#[test]
fn modes() {
    run(&[
        case(
            "writable file",
            &["wrong-modes"],
            format!("chmod 644 u/{NEW}/file"),
        ),
        case(
            "writable object",
            &["wrong-modes"],
            format!("chmod 755 u/{NEW}"),
        ),
        case(
            "time",
            &["wrong-modes"],
            format!("touch u/{TWICE}/file u/{TWICE}/sub/file"),
        ),
        case(
            "time of a symlink",
            &["wrong-modes"],
            format!("touch -h u/{NEW}/link"),
        ),
        case(
            "set-user-id",
            &["wrong-modes"],
            format!("chmod 4555 u/{NEW}/file"),
        ),
        case("upper open to all", &["wrong-modes"], "chmod 777 u"),
        case("upper without sticky bit", &["wrong-modes"], "chmod 775 u"),
        case("database", &["wrong-modes"], "chmod 666 state/db/db.sqlite"),
        case("database directory", &["wrong-modes"], "chmod 777 state/db"),
        case("lock", &["wrong-modes"], "chmod 644 state/db/big-lock"),
    ]);
}

#[test]
fn the_work_directory() {
    run(&[case(
        "of the kernel",
        &["work-leftover"],
        "mkdir -p -m 0 u.work/work && touch 'u.work/work/#1'",
    )]);
}

/// No command deletes what is somebody's.
#[test]
fn files_of_somebody_in_the_work_directory() {
    if !can_mount() {
        return;
    }
    for path in ["junk/deep", "work/file", "work/precious/f", "index/x"] {
        let world = World::mounted();
        let script = format!(
            "mkdir -p u.work/work && touch 'u.work/work/#1' && install -D /dev/null u.work/{path}"
        );
        world.must(&script);
        let broken = world.check();
        assert_eq!(
            broken.ids(),
            ["work-foreign"],
            "{path}: {:#}",
            broken.report
        );
        assert_eq!(broken.code, Some(1), "{path}");
        let fault = &broken.report["faults"][0];
        let named = fault["path"].as_str().unwrap();
        assert!(
            named.contains("/u.work/") && !named.contains('#'),
            "{fault:#}"
        );
        assert!(
            fault["means"].as_str().unwrap().contains("workdir="),
            "{fault:#}"
        );
        assert!(fault["mend"].is_null(), "{fault:#}");
    }
}

#[test]
fn directories_that_are_missing() {
    run(&[case(
        "upper",
        &["missing-directory", "not-mounted"],
        "overstore umount $M && rm -r u && sqlite3 state/db/db.sqlite 'PRAGMA foreign_keys = 1; DELETE FROM Refs; DELETE FROM ValidPaths'",
    )]);
}

/// Of several faults each is told.
#[test]
fn faults_do_not_hide_each_other() {
    run(&[case(
        "three",
        &["wrong-modes", "whiteout", "shadow"],
        format!("mknod u/{LIB} c 0 0 && echo junk >u/{OTHER} && chmod 777 u"),
    )]);
}
