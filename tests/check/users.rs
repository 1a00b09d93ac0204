// SPDX-License-Identifier: MIT OR Apache-2.0
//! How `overstore check` is called, by whom, and what it prints.

use super::world::{Checked, NEW, OTHER, World, can_mount, stderr};
use std::process::Output;

const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

fn output(world: &World, script: &str) -> Output {
    world.shell(script).output().unwrap()
}

/// Every way to name the layout leads to it.
#[test]
fn the_layout_is_spelled_as_elsewhere() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    world.must(&format!("chmod 644 u/{NEW}/file"));
    for (script, seen) in [
        ("overstore check --json \"$URL\"", 1),
        ("OVERSTORE_STORE=$URL overstore check --json", 1),
        ("OVERSTORE_STORE=$URL overstore check --json $M", 1),
        // No state directory is known: nobody knows what is valid.
        ("overstore check --json $M", 0),
        ("cd root/nix && overstore check --json store", 0),
    ] {
        let checked = Checked::of(&output(&world, script));
        assert_eq!(
            (checked.code, checked.ids().len()),
            (Some(seen), seen as usize),
            "{script}"
        );
    }
    let none = output(&world, "overstore check $PWD/bin");
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    let machine = Checked::of(&output(&world, "overstore check --json"));
    assert_eq!((machine.code, machine.probe("kernel")), (Some(0), "yes"));
}

/// People read the same that programs do.
#[test]
fn the_text_has_every_probe_and_fault() {
    let world = World::new("l");
    let shown = output(&world, "overstore check \"$URL\"");
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stdout).unwrap();
    let report = world.check().report;
    let lists = ["probes", "faults"].map(|list| report[list].as_array().unwrap().clone());
    for entry in lists.iter().flatten() {
        for part in ["id", "means"] {
            let part = entry[part].as_str().unwrap();
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    for title in [
        "Machine\n",
        "Layout\n",
        "Choice of backend=auto\n",
        "Faults\n",
    ] {
        assert!(text.contains(title), "{title}");
    }
    assert!(!text.contains('\u{1b}'), "no colours");
}

/// What a plain user may not see is told as not checked.
#[test]
fn what_is_forbidden_is_not_taken_for_good() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    let script = format!("{PLAIN} overstore check --json \"$URL\"");
    let checked = Checked::of(&output(&world, &script));
    assert_eq!(checked.ids(), [""; 0], "{:#}", checked.report["faults"]);
    assert!(
        checked.unseen().contains(&"opaque"),
        "{:?}",
        checked.unseen()
    );
    assert_eq!(checked.probe("privilege"), "no");
    world.must(&format!("chmod 700 state/db && chmod 700 u/{NEW}"));
    let checked = Checked::of(&output(&world, &script));
    // That users of the store are locked out is a fault itself.
    assert_eq!(
        checked.ids(),
        ["wrong-modes"],
        "{:#}",
        checked.report["faults"]
    );
    for id in ["closure", "row-without-files", "whiteout"] {
        assert!(
            checked.unseen().contains(&id),
            "{id}: {:?}",
            checked.unseen()
        );
    }
}

/// A user's own layout, served by the kernel in a user namespace, with that kind of marks; mended there.
#[test]
fn a_layout_of_a_user_namespace() {
    if !can_mount() {
        return;
    }
    let world = World::new("l");
    world.must("chown -R 65534:65534 .");
    let check = "overstore check --json \"$URL\"";
    let script = format!(
        "{PLAIN} unshare -Urm bash -c 'overstore mount --backend kernel \"$URL\"; touch $M/{OTHER}/file; \
         {check} >broken; sed -n \"s/^ *.mend.: .\\(.*\\).,$/\\1/p\" broken >mend; bash -e mend >&2; {check} >mended; cat broken'"
    );
    let broken = Checked::of(&output(&world, &script));
    assert_eq!(broken.ids(), ["copied-up"], "{:#}", broken.report["faults"]);
    let what = broken.report["faults"][0]["what"].to_string();
    assert!(what.contains("user.overlay."), "{what}");
    let mended: serde_json::Value = serde_json::from_str(&world.must("cat mended")).unwrap();
    assert_eq!(mended["faults"], serde_json::json!([]));
}

/// Probes and scans leave nothing behind, and the mount table as it was.
#[test]
fn nothing_is_left_behind() {
    if !can_mount() {
        return;
    }
    let world = World::mounted();
    let seen = "find . -not -path './root/*' -printf '%p %m %s %T@\\n' | grep -v '^\\. ' | sort; grep $PWD /proc/self/mounts || true";
    let before = world.must(seen);
    world.check().assert_clean("good");
    world.must(&format!(
        "{PLAIN} overstore check --json \"$URL\" >/dev/null"
    ));
    assert_eq!(world.must(seen), before);
    // Other checks run meanwhile: what they make goes, what was left behind stays.
    let left = "for name in $(ls -A /tmp | grep overstore-probe); do
            for _ in $(seq 200); do [ -e /tmp/$name ] || continue 2; sleep 0.05; done
            echo $name
        done";
    assert_eq!(world.must(left), "");
}
