// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers that overlap, are missing, or do not tell what they have: what is not known of the lower is
//! told as such, and no command is printed that removes what may hide something.

use super::world::{Checked, LIB, NEW, OTHER, TOOL, TWICE, World, can_mount};

const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// Nothing but `ids` is a fault, and each of `unseen` may be there.
#[track_caller]
fn tells(checked: &Checked, ids: &[&str], unseen: &[&str]) {
    assert_eq!(checked.ids(), ids, "{:#}", checked.report["faults"]);
    for id in unseen {
        assert!(
            checked.unseen().contains(id),
            "{id}: {:#}",
            checked.report["not-checked"]
        );
    }
}

const HIDING: [&str; 3] = ["whiteout", "stray-whiteout", "opaque"];

/// Whiteouts, an opaque directory, and a name that stands before a valid object.
fn marked() -> World {
    let world = World::new("l");
    world.must(&format!(
        "mknod u/{LIB} c 0 0 && mknod u/x c 0 0 && echo junk >u/{OTHER}
        setfattr -n trusted.overlay.opaque -v y u/{TWICE}/sub"
    ));
    world
}

#[test]
fn a_lower_that_is_missing() {
    if !can_mount() {
        return;
    }
    let world = marked();
    world.must("mv l/nix/store l/nix/gone");
    let gone = ["missing-directory", "not-mounted"];
    tells(&world.check(), &gone, &HIDING);
    tells(&world.check(), &gone, &["shadow", "row-without-files"]);
}

/// The directory on which the lower's filesystem would be mounted.
#[test]
fn a_lower_that_is_empty() {
    if !can_mount() {
        return;
    }
    let world = marked();
    world.must("mv l/nix/store l/nix/gone && mkdir l/nix/store");
    tells(&world.check(), &["not-mounted"], &HIDING);
    tells(
        &world.check(),
        &["not-mounted"],
        &["shadow", "row-without-files"],
    );
}

/// A part of the lower that this user may not look into.
#[test]
fn a_lower_that_is_unreadable_in_part() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must(&format!(
        "chmod u+w u/{TWICE}/sub u/{TWICE} && mkdir u/{TWICE}/sub/deep l/nix/store/{TWICE}/sub/deep
        mknod u/{TWICE}/sub/gone c 0 0 && mknod u/{TWICE}/stray c 0 0
        setfattr -n user.overlay.opaque -v y u/{TWICE}/sub/deep
        chown -R 65534:65534 . && chown -R 0:0 l/nix/store && chmod 700 l/nix/store/{TWICE}/sub"
    ));
    let script = format!("{PLAIN} overstore check --json \"$URL\"");
    let checked = Checked::of(&world.shell(&script).output().unwrap());
    let faults = checked.report["faults"].to_string();
    for hiding in ["sub/gone", "\"opaque\""] {
        assert!(!faults.contains(hiding), "{faults}");
    }
    assert!(faults.contains("/stray\""), "{faults}");
    let unseen = checked.report["not-checked"].to_string();
    for hiding in ["sub/gone", "sub/deep", "stray-whiteout"] {
        assert!(unseen.contains(hiding), "{unseen}");
    }
}

/// The lower's database has what its directory lacks: nothing says that the upper's is too much.
#[test]
fn a_valid_object_that_the_lower_lacks() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    world.must(&format!(
        "echo text >u/{OTHER} && chmod -R u+w l/nix/store/{OTHER} && rm -r l/nix/store/{OTHER}"
    ));
    tells(&world.check(), &[], &["shadow"]);
    world.must(&format!("chmod 644 u/{NEW}/file"));
    tells(&world.check(), &["wrong-modes"], &["shadow"]);
}

/// A driver that answers its owner alone is neither taken for healthy nor for dead.
#[test]
fn a_driver_that_may_not_be_asked() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("overstore mount -o noallow_other \"$URL\"");
    tells(&world.check(), &[], &[]);
    assert!(!world.check().unseen().contains(&"driver-dead"));
    let script = format!("{PLAIN} overstore check --json \"$URL\"");
    let checked = Checked::of(&world.shell(&script).output().unwrap());
    tells(&checked, &[], &["driver-dead", "driver-hung"]);
}

/// An unmounted lower view, and a hung one: each is told, and nothing waits for ever.
#[test]
fn a_lower_that_is_a_view() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    let inner = world.url().replace('%', "%25").replace('&', "%26");
    world.must("mkdir u2 state2");
    let path = world.path("").display().to_string();
    let url = format!(
        "'local-overlay://?root={path}two&lower-store={inner}&upper-layer={path}u2&state={path}state2'"
    );
    world.must(&format!("overstore mount {url}"));
    let good = world.check_words(&url);
    good.assert_clean("both mounted");
    assert!(good.unseen().is_empty(), "{:?}", good.unseen());
    // Valid below the lower.
    world.must(&format!("echo junk >u2/{TOOL}"));
    let shadow = world.check_words(&url);
    assert_eq!(shadow.ids(), ["shadow"]);
    world.must(&shadow.mends()[0]);
    world.must("pid=$(overstore status --json $M | sed -n 's/ *\"pid\": \\([0-9]*\\).*/\\1/p'); kill -STOP $pid; echo $pid >pid");
    let hung = world.check_words(&url);
    world.must("kill -CONT $(cat pid)");
    assert_eq!(hung.ids(), ["no-answer"]);
    assert!(hung.unseen().contains(&"shadow"), "{:?}", hung.unseen());
    world.must("overstore umount two/nix/store && overstore umount $M");
    let bare = world.check_words(&url);
    assert_eq!(bare.ids(), ["lower-not-mounted", "not-mounted"]);
    world.must(&format!("mknod u2/{NEW} c 0 0"));
    tells(
        &world.check_words(&url),
        &["lower-not-mounted", "not-mounted"],
        &HIDING,
    );
    world.must(&format!("rm u2/{NEW}"));
    for command in &bare.mends() {
        world.must(command);
    }
    world.check_words(&url).assert_clean("mounted again");
}

#[test]
fn paths_that_nix_cannot_match() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    world.must("overstore umount $M && mv u u+1");
    let url = format!(
        "{}%2b1&state=",
        world.url().split("&state=").next().unwrap()
    );
    let url = format!("{url}{}", world.path("state").display());
    let broken = world.check_words(&format!("'{url}'"));
    assert_eq!(broken.ids(), ["nix-check", "not-mounted"]);
    assert_eq!(broken.probe("nix-check"), "no");
    world.must(&broken.mends()[0]);
    world
        .check_words(&format!("'{url}&check-mount=false'"))
        .assert_clean("after");
}

#[test]
fn directories_inside_each_other() {
    let world = World::new("l");
    world.must("mkdir l/nix/store/u && ln -s l/nix/store link");
    for upper in ["l/nix/store/u", "link/u"] {
        let words =
            format!("-o lowerdir=$PWD/l/nix/store,upperdir=$PWD/{upper},nix-check=off $PWD/bin");
        let broken = world.check_words(&words);
        assert_eq!(broken.ids(), ["nesting", "not-mounted"], "{upper}");
    }
}
