// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands of several faults, run as they are printed, mend them together; where none can, none
//! is printed.

use super::world::{Checked, NEW, World, can_mount, stderr};

#[track_caller]
fn run_in_order(world: &World, checked: &Checked) {
    let commands = checked.mends();
    for command in &commands {
        let output = world.shell(command).output().unwrap();
        assert!(
            output.status.success(),
            "{command} of {commands:#?}: {}",
            stderr(&output)
        );
    }
}

/// What `broken_by` breaks ends without a fault when every command was run once, in order.
#[test]
fn commands_together_end_well() {
    if !can_mount() {
        return;
    }
    for broken_by in [
        "overstore umount $M && rm -r state/db && chmod -R u+w u/* && rm -r u/*",
        "overstore umount $M && rm -r l u state/db",
        "overstore umount $M && rmdir -p root/nix/store",
        "overstore umount $M && chmod 777 u && mkdir -p u.work/work && touch 'u.work/work/#1' && chmod 755 u/NEW",
        "overstore umount $M && mount -t tmpfs tmpfs $M && rm -r state/db && chmod -R u+w u/* && rm -r u/*",
        "rm -r state/db && chmod 777 u && chmod -R u+w u/* && rm -r u/*",
    ] {
        let world = World::mounted();
        world.must(&broken_by.replace("NEW", NEW));
        let checked = world.check();
        assert_eq!(checked.code, Some(1), "{broken_by}");
        run_in_order(&world, &checked);
        let after = world.check();
        // What has no database there cannot be judged, which is no fault.
        after.assert_clean(broken_by);
    }
}

/// The kernel's spelling is told of last, so that no other command mounts by the kernel again.
#[test]
fn a_spelling_is_mended_last() {
    if !can_mount() {
        return;
    }
    let world = World::new("s");
    world.must(&format!(
        "overstore mount --backend kernel \"$URL\" && chmod 755 u/{NEW}"
    ));
    let checked = world.check();
    assert_eq!(checked.ids(), ["wrong-modes", "check-mount"]);
    run_in_order(&world, &checked);
    world.check().assert_clean("after");
}

/// Nix's check cannot be helped by mounting; the mount must still succeed.
#[test]
fn paths_that_nix_cannot_match_are_mounted_without_its_check() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("mv u 'u p'");
    let url = world.url().replace("/u&", "/u%20p&");
    let words = format!("'{url}'");
    world.must("rm -r state/db");
    let checked = world.check_words(&words);
    let mounts = checked.mends();
    let mounts: Vec<&String> = mounts
        .iter()
        .filter(|mend| mend.contains("overstore mount"))
        .collect();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    run_in_order(&world, &checked);
    let mounted = world.check_words(&words);
    let ids = mounted.ids();
    assert!(ids.contains(&"nix-check"), "{ids:?}");
    assert!(!ids.contains(&"not-mounted"), "{ids:?}");
    let fault = &mounted.report["faults"][0];
    assert_eq!(fault["id"], "nix-check", "{fault:#}");
    assert!(fault["mend"].is_null(), "{fault:#}");
    assert!(
        fault["what"]
            .as_str()
            .unwrap()
            .contains("check-mount=false"),
        "{fault:#}"
    );
}

#[test]
fn nothing_is_made_inside_a_layer() {
    let world = World::new("l");
    for (lower, upper) in [("l/nix/store", "l/nix/store/x/u"), ("u/x", "u")] {
        let words =
            format!("-o lowerdir=$PWD/{lower},upperdir=$PWD/{upper},nix-check=off $PWD/root");
        let checked = world.check_words(&words);
        let ids = checked.ids();
        assert!(
            ids.contains(&"nesting") && ids.contains(&"missing-directory"),
            "{ids:?}"
        );
        assert!(checked.mends().is_empty(), "{:?}", checked.mends());
    }
}

/// A parent that is a file, or a symlink that leads nowhere, is nothing that `mkdir` goes past.
#[test]
fn directories_that_cannot_be_made_have_no_command() {
    for broken_by in [
        "mkdir -p root/nix/store && mv u other && ln -s /none/at/all u",
        "rm -r root && echo file >root",
    ] {
        let world = World::new("l");
        world.must(broken_by);
        let words = "-o lowerdir=$PWD/l/nix/store,upperdir=$PWD/u,nix-check=off $M";
        let checked = world.check_words(words);
        assert!(checked.ids().contains(&"missing-directory"), "{broken_by}");
        assert!(checked.mends().is_empty(), "{:?}", checked.mends());
    }
}

#[test]
fn an_upper_that_cannot_be_written() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("mount --bind u u && mount -o remount,ro,bind u");
    let checked = world.check();
    assert_eq!(checked.ids(), ["upper-read-only", "not-mounted"]);
    let mend = checked.report["faults"][1]["mend"].as_str().unwrap();
    assert!(mend.contains("-o ro"), "{mend}");
    run_in_order(&world, &checked);
    assert_eq!(world.check().ids(), ["upper-read-only"]);
    let asked = format!("-o ro {}", world.quoted_url());
    world.check_words(&asked).assert_clean("asked for");
}

/// Modes by which others cannot read the store, as Nix gives them.
#[test]
fn modes_that_lock_others_out() {
    if !can_mount() {
        return;
    }
    for broken_by in [
        "chmod 700 u",
        "chmod 600 state/db/db.sqlite",
        "chmod 700 state/db",
        "chmod 600 state/db/schema",
    ] {
        let world = World::mounted();
        world.must(broken_by);
        let checked = world.check();
        assert_eq!(checked.ids(), ["wrong-modes"], "{broken_by}");
        run_in_order(&world, &checked);
        world.check().assert_clean(broken_by);
    }
}

/// The kernel lists a colon of the lower with a backslash, which Nix does not know.
#[test]
fn a_colon_on_the_kernel_is_told() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("mv l 'l:1'");
    let url = world.url().replace("/l&", "/l:1&");
    let words = format!("'{url}'");
    world.must(&format!(
        "overstore mount --backend kernel -o nix-check=off {words}"
    ));
    let checked = world.check_words(&words);
    assert_eq!(checked.ids(), ["check-mount"]);
    run_in_order(&world, &checked);
    world.check_words(&words).assert_clean("after");
}

#[test]
fn what_is_not_known_names_a_path() {
    let world = World::new("l");
    let checked = world.check_words("-o lowerdir=$PWD/l/nix/store,upperdir=$PWD/u $M");
    for one in checked.report["not-checked"].as_array().unwrap() {
        assert_ne!(one["path"], "", "{one:#}");
    }
}

#[test]
fn a_directory_without_a_view_names_no_layout() {
    let world = World::new("l");
    for word in ["$M", "$PWD/none/at/all"] {
        let output = world
            .shell(&format!("overstore check {word}"))
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("no merged view is mounted there") && text.contains("a store URL"),
            "{text}"
        );
        assert!(!text.contains("lowerdir: missing"), "{text}");
    }
}
