// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line of fstab and the systemd mount unit that the README shows, used as they stand there.
//!
//! Invariant: only the top of each path is put below the test's own directory.

mod common;

use common::{Place, said, script, skip, text, with_program};
use std::process::Command;

const README: &str = include_str!("../../README.md");
const UNIT: &str = include_str!("../systemd/m-nix-store.mount");
const UNIT_NAME: &str = "m-nix-store.mount";
const LINE: &str =
    "overlay  /m/nix/store  overstore  lowerdir=/l/nix/store,upperdir=/u,nofail  0 0";

/// In front of every script: the helper where mount(8) looks for it, and the directories.
const PROLOGUE: &str = r#"
    mkdir -p sbin l/nix/store m/nix/store && cp bin/* sbin && mount --bind sbin "$(readlink -f /sbin)"
    echo "from the lower" >l/nix/store/low
    type() { grep " $D/m/nix/store " /proc/self/mounts | cut -d' ' -f1,3 | cut -d, -f1; }
"#;

/// The backends, as an option to be added, and the type that is listed then.
const BACKENDS: [(&str, &str); 4] = [
    ("", "fuse.overstore"),
    (",backend=auto", "fuse.overstore"),
    (",backend=fuse", "fuse.overstore"),
    (",backend=kernel", "overlay"),
];

/// Puts the paths below the test's own directory.
fn below_the_place(text: &str) -> String {
    text.replace("=/", "=$D/").replace(" /m/", " $D/m/")
}

#[test]
fn the_readme_shows_what_is_tried_here() {
    let body = UNIT.split_once("[Unit]").unwrap().1;
    assert!(README.contains(&format!("[Unit]{body}```")), "{body}");
    assert!(README.contains(&format!("\n{LINE}\n")), "{LINE}");
}

#[test]
fn systemd_accepts_the_unit() {
    let place = Place::new();
    let verify = |text: &str| {
        let file = place.path(UNIT_NAME);
        std::fs::write(&file, text).unwrap();
        Command::new("systemd-analyze")
            .arg("verify")
            .arg(file)
            .output()
    };
    let output = match verify(UNIT) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            return skip("there is no systemd-analyze: apt-get install systemd");
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    // It would have told of a mistake.
    let elsewhere = UNIT.replace("Where=/m", "Where=/n");
    assert!(!verify(&elsewhere).unwrap().status.success());
}

/// What systemd runs to start and to stop a mount unit.
#[test]
fn by_the_unit_as_systemd_does() {
    let setting = |name: &str| {
        let lines = UNIT.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(&format!("{name}=")));
        values.next().unwrap().to_owned()
    };
    for (backend, listed) in BACKENDS {
        let place = Place::new();
        if !with_program(&place) {
            return;
        }
        let (what, of_type) = (setting("What"), setting("Type"));
        let place_of = format!("$D{}", setting("Where"));
        let options = below_the_place(&setting("Options"));
        let life = format!(
            r#"{PROLOGUE}
            mount {what} "{place_of}" -t {of_type} -o "{options}{backend}"; echo $?
            type; cat "{place_of}/low"; echo new >"{place_of}/new"; cat u/new
            umount "{place_of}" -c; echo $?
            type; ls "{place_of}" | wc -l
            mount {what} "{place_of}" -s -t {of_type} -o "{options}{backend},wibble"; echo $?
            umount "{place_of}" -c; echo $?"#
        );
        let expected = format!("0\noverlay {listed}\nfrom the lower\nnew\n0\n0\n0\n0\n");
        said(&script(&place, &["-m"], &life), &expected);
    }
}

#[test]
fn by_the_line_of_fstab() {
    for (backend, listed) in BACKENDS {
        let place = Place::new();
        if !with_program(&place) {
            return;
        }
        let line = below_the_place(&LINE.replace(",nofail", &format!(",nofail{backend}")));
        let life = format!(
            r#"{PROLOGUE}
            echo "{line}" >fstab
            mount -T "$D/fstab" "$D/m/nix/store"; echo $?
            type; cat m/nix/store/low; echo new >m/nix/store/new; cat u/new
            mount -a -T "$D/fstab"; echo $?
            type; umount "$D/m/nix/store"; echo $?; ls m/nix/store | wc -l
            mount -a -T "$D/fstab"; echo $?
            type; umount "$D/m/nix/store"; echo $?"#
        );
        let expected = format!(
            "0\noverlay {listed}\nfrom the lower\nnew\n0\n\
             overlay {listed}\n0\n0\n0\noverlay {listed}\n0\n"
        );
        said(&script(&place, &["-m"], &life), &expected);
    }
}
