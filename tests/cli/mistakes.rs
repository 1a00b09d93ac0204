// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said of mistakes, of what the machine lacks, and of the commands themselves.

use crate::place::*;
use crate::skip::skip;
use std::fs;
use std::os::unix::fs::chown;
use std::process::{Command, Output};

/// What is typed, the exit code, and what the one line of explanation must hold.
const MISTAKES: &[(&str, i32, &[&str])] = &[
    ("umount", 2, &["required", "<MERGED>", "umount --help"]),
    ("frob", 2, &["'frob'", "overstore --help"]),
    ("mount --frobnicate", 2, &["--frobnicate", "mount --help"]),
    (
        "--help >/dev/full",
        3,
        &["standard output", "No space left"],
    ),
    ("run ls", 125, &["COMMAND", "run --help"]),
    ("run --backend foo -- true", 125, &["foo", "run --help"]),
    ("mount http://foo", 2, &["http://foo", "local-overlay:"]),
    (
        "mount local-overlay m",
        2,
        &["local-overlay", "does not begin"],
    ),
    (
        "mount -o \"$(printf 'lowerdir=no\\nb,upperdir=u,nix-check=off')\" m",
        3,
        &["lower", "no\\nb"],
    ),
    ("sync l", 1, &["sync l", "no overstore driver"]),
    (
        "mount -o lowerdir=none,upperdir=u m",
        3,
        &["lower", "/none", "No such"],
    ),
    (
        "mount -o lowerdir=file,upperdir=u m",
        3,
        &["lower", "/file", "not a directory"],
    ),
    (
        "mount -o lowerdir=l,upperdir=none m",
        3,
        &["upper", "/none", "mkdir"],
    ),
    (
        "mount -o lowerdir=l,upperdir=file m",
        3,
        &["upper", "/file", "not a directory"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,workdir=none m",
        3,
        &["work", "/none"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,workdir=/proc m",
        2,
        &["workdir=/proc", "filesystem"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u none",
        3,
        &["merged", "/none", "mkdir"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u file",
        3,
        &["merged", "/file", "not a directory"],
    ),
    ("mount -o lowerdir=l,upperdir=u u/m", 2, &["merged", "/u/m"]),
    (
        "mount -o lowerdir=l,upperdir=u+v m",
        2,
        &["u+v", "'+'", "nix-check=off"],
    ),
    (
        "mount -o 'lowerdir=l,upperdir=u v' m",
        2,
        &["u v", "' '", "nix-check=off"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,frobnicate=1 m",
        2,
        &["frobnicate"],
    ),
    ("mount -o upperdir=u m", 2, &["lowerdir"]),
    (
        "mount -o lowerdir=l,upperdir=u",
        2,
        &["merged directory", "for example"],
    ),
    ("mount", 2, &["none is given", "local-overlay://"]),
    (
        "mount 'local-overlay://?upper-layer=rel'",
        2,
        &["upper-layer", "rel"],
    ),
    ("umount m", 1, &["unmount m", "nothing is mounted"]),
    (
        "umount /proc",
        1,
        &["/proc", "not a merged view", "umount(8)"],
    ),
    ("status m", 1, &["no merged view"]),
];

/// Every mistake ends with its exit code and one line that names it and the way out.
#[test]
fn mistakes_are_explained_in_one_line() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    fs::write(place.path("file"), "").unwrap();
    for (words, code, parts) in MISTAKES {
        let output = place.shell(&format!("\"$O\" {words}")).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{words}: {text}");
        assert_eq!(text.lines().count(), 1, "{words}: {text}");
        assert!(text.starts_with("error: "), "{words}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{words}: {part:?} is not in: {text}");
        }
    }
}

#[test]
fn an_upper_of_somebody_else_is_refused_to_a_plain_user() {
    if !is_root() {
        return skip("not root");
    }
    let place = Place::new(Who::Plain);
    chown(place.path("u"), Some(0), Some(0)).unwrap();
    let output = place
        .overstore()
        .args(["mount", "-o", &place.layers()])
        .arg(place.path("m"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("write to upper directory"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn usage_mistakes_of_run_end_with_125() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    for args in [
        vec!["run", "--frobnicate"],
        vec!["run", "--", "true"],
        vec!["-v", "run"],
    ] {
        let output = place.overstore().args(&args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(125),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    for args in [
        vec!["--help"],
        vec!["--version"],
        vec!["run", "--help"],
        vec!["status", "--help"],
    ] {
        let output = place.overstore().args(&args).output().unwrap();
        assert_ok(&output);
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}"
        );
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [
        "mount", "umount", "run", "status", "sync", "repair", "check", "compare",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_overstore"))
            .args([command, "--help"])
            .output()
            .unwrap();
        assert_ok(&output);
        for part in ["EXAMPLES", "EXIT CODES", "Usage: overstore"] {
            assert!(stdout(&output).contains(part), "{command}: {part}");
        }
    }
}

#[test]
fn the_hook_explains_itself_and_takes_one_directory() {
    let hook = |args: &[&str]| {
        let mut hook = Command::new(env!("CARGO_BIN_EXE_overstore-sync"));
        hook.args(args).output().unwrap()
    };
    let help = hook(&["--help"]);
    assert_ok(&help);
    for part in [
        "remount-hook",
        "Usage: overstore-sync <MERGED>",
        "EXAMPLES",
        "EXIT CODES",
    ] {
        assert!(stdout(&help).contains(part), "{part}");
    }
    let cases: [(&[&str], i32, &str); 4] = [
        (&[], 2, "see `overstore-sync --help`"),
        (&["/", "/"], 2, "see `overstore-sync --help`"),
        (&["/"], 1, "no overstore driver serves it"),
        (&["/none"], 3, "open /none: No such file"),
    ];
    for (args, code, part) in cases {
        let refused = hook(args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        let told = stderr(&refused);
        assert!(told.contains(part) && told.lines().count() == 1, "{told}");
    }
}

/// Runs `script` as root with a `/dev` of its own, in which `$O` is the program and `$L` the layers.
fn with_own_devices(place: &Place, script: &str) -> Output {
    let start = "mount -t tmpfs -o mode=0755 tmpfs /dev; mknod -m 0666 /dev/null c 1 3; \
        cp \"$O\" /dev/overstore; O=/dev/overstore;";
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(format!("{start} {script}"))
        .env("O", env!("CARGO_BIN_EXE_overstore"))
        .env("L", place.layers())
        .env("M", place.path("m"))
        .output()
        .unwrap()
}

#[test]
fn what_the_machine_lacks_is_told_with_the_way_out() {
    if !can(Who::Root) {
        return;
    }
    let plain = "setpriv --reuid daemon --regid daemon --clear-groups";
    let device = "mknod -m 0666 /dev/fuse c 10 229;";
    let mount = "\"$O\" mount -o \"$L\" \"$M\"";
    let cases: [(String, &[&str]); 4] = [
        (
            format!("{plain} \"$O\" mount --backend kernel -o \"$L\" \"$M\""),
            &["Operation not permitted", "root"],
        ),
        (
            "\"$O\" mount --backend fuse -o \"$L\" \"$M\"".to_owned(),
            &["/dev/fuse", "No such file", "modprobe fuse"],
        ),
        (
            format!("mknod -m 0600 /dev/fuse c 10 229; {plain} {mount}"),
            &["/dev/fuse", "0666"],
        ),
        (
            format!("{device} mkdir /dev/none; {plain} env PATH=/dev/none {mount}"),
            &["fusermount3", "fuse3"],
        ),
    ];
    for (script, parts) in cases {
        let place = Place::new(Who::Root);
        for name in ["", "l", "u", "m"] {
            chown(place.path(name), Some(1), Some(1)).unwrap();
        }
        let output = with_own_devices(&place, &script);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{script}: {text}");
        assert_eq!(text.lines().count(), 1, "{script}: {text}");
        for part in parts {
            assert!(text.contains(part), "{script}: {part:?} is not in: {text}");
        }
    }
}
