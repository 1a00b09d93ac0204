// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests that must not be fulfilled, each with its exit code and message.

mod common;

use common::{Place, REFUSED, SYSTEM, USAGE, needs_root, refused, skip, text};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;

#[test]
fn words_that_are_wrong() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    let table: [(&[&str], &str); 13] = [
        (&[], "SPEC is missing"),
        (&["overlay"], "DIR is missing"),
        (&["overlay", &merged, "more"], "argument more"),
        (&["overlay", &merged, "-q"], "option -q: unknown"),
        (&["overlay", &merged, "--quick"], "option --quick: unknown"),
        (&["overlay", &merged, "-o"], "option -o: needs a value"),
        (&["overlay", &merged, "-t", "ext4"], "type ext4"),
        (
            &["overlay", &merged, "-t", "overstore.x"],
            "option backend=x",
        ),
        (
            &["overlay", &merged, "-o", "wibble=3"],
            "option wibble=3: unknown",
        ),
        (
            &["overlay", &merged, "-o", "lowerdir"],
            "option lowerdir: needs a value",
        ),
        (
            &["overlay", &merged, "-o", "lowerdir=/a:/b"],
            "only one lower",
        ),
        (
            &["overlay", &merged, "-o", "lowerdir=/a\\"],
            "lone backslash",
        ),
        (
            &["overlay", &merged, "-o", "upperdir="],
            "the path is empty",
        ),
    ];
    for (words, message) in table {
        refused(&place.helper(words), USAGE, &[message]);
    }
}

#[test]
fn options_that_do_not_fit() {
    let place = Place::new();
    let good = place.layers();
    let merged = place.path("m").display().to_string();
    for option in [
        "lower-ttl=3",
        "repair",
        "record",
        "xattr",
        "watch=off",
        "noallow_other",
    ] {
        let own = format!("{good},backend=kernel,{option}");
        let output = place.helper(&["overlay", &merged, "-o", &own]);
        let name = option.split('=').next().unwrap();
        let named = format!("option {name}: the kernel backend has none");
        refused(&output, USAGE, &[&named]);
        // Without the program there is the kernel alone; `-s` forgives.
        let own = format!("{good},{option}");
        let output = place.helper(&["overlay", &merged, "-o", &own]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(USAGE), "{said}");
        assert!(said.contains("the program overstore is neither"), "{said}");
        assert!(said.contains(&named), "{said}");
        let output = place.helper(&["overlay", &merged, "-sfo", &own]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    // What asks for nothing that the kernel does not do anyway.
    let own = format!("{good},backend=kernel,repair,norepair,record,norecord,noxattr,allow_other");
    let output = place.helper(&["overlay", &merged, "-fo", &own]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = place.helper(&["overlay", &merged, "-o", "upperdir=/u,backend=kernel"]);
    refused(&output, USAGE, &["option lowerdir: missing"]);
}

#[test]
fn sloppy_forgives_unknown_options_only() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    let options = format!(
        "{},backend=kernel,wibble=3,x-systemd.a=b,nofail",
        place.layers()
    );
    let output = place.helper(&["overlay", &merged, "-sfnvo", &options]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("option wibble=3: unknown, forgiven"),
        "{said}"
    );
    assert!(!said.contains("x-systemd"), "{said}");
    assert!(
        !place.path("u.work").try_exists().unwrap(),
        "-f leaves nothing"
    );
    let options = format!("{},upperdir=", place.layers());
    refused(
        &place.helper(&["overlay", &merged, "-so", &options]),
        USAGE,
        &["the path is empty"],
    );
}

#[test]
fn paths_that_are_none() {
    let place = Place::new();
    let base = place.path("").display().to_string();
    let long = format!("/{}", "x/".repeat(2048));
    let table: [(&str, i32, &str); 7] = [
        ("l", USAGE, "not an absolute path"),
        (&format!("{base}/l/../l"), USAGE, "without `..`"),
        (&format!("{base}/l\nx"), USAGE, "control character"),
        (&format!("{base}/l\u{7f}"), USAGE, "control character"),
        (&long, USAGE, "longer than 4095 bytes"),
        (&format!("{base}/none"), REFUSED, "No such file"),
        (&format!("{base}/file"), REFUSED, "Not a directory"),
    ];
    std::fs::write(place.path("file"), "").unwrap();
    for (path, code, message) in table {
        let good = [place.path("l"), place.path("u"), place.path("m")];
        for at in 0..3 {
            let mut paths = good.clone();
            paths[at] = path.into();
            let output = place.check(&paths[0], &paths[1], &paths[2], "nix-check=off");
            let role = ["lower directory", "upper directory", "mountpoint"][at];
            // The upper's default work directory is found to be impossible first.
            let role = if at == 1 { "directory" } else { role };
            refused(&output, code, &[role, message]);
        }
    }
}

#[test]
fn bytes_that_nix_trips_over_are_refused_and_otherwise_kept() {
    let place = Place::new();
    let names: [&[u8]; 8] = [
        b"c,d",
        b"c:d",
        b"c\\d",
        b"c d",
        b"c+d",
        b"c(d",
        b"c#d",
        b"\xff\xfe",
    ];
    for name in names {
        let lower = place.path("").join(OsString::from_vec(name.to_vec()));
        std::fs::create_dir(&lower).unwrap();
        let (upper, merged) = (place.path("u"), place.path("m"));
        if name != b"\xff\xfe" {
            let output = place.check(&lower, &upper, &merged, "");
            refused(&output, USAGE, &["Nix's mount check", "nix-check=off"]);
        }
        let output = place.check(&lower, &upper, &merged, "nix-check=off");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn another_user() {
    if !needs_root() {
        return;
    }
    let place = Place::new();
    let merged = place.path("m");
    for name in ["u", "m", ""] {
        chown(place.path(name), Some(65534), Some(65534)).unwrap();
    }
    let options = format!("{},backend=kernel", place.layers());
    let mut command = place.command();
    command
        .arg("overlay")
        .arg(&merged)
        .args(["-o", &options])
        .uid(65534)
        .gid(65534);
    refused(
        &command.output().unwrap(),
        USAGE,
        &["not permitted", "overstore run"],
    );
    let locked = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(place.path("l"), locked).unwrap();
    refused(
        &command.output().unwrap(),
        REFUSED,
        &["read lower directory", "Permission denied"],
    );
    chown(place.path("u"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(place.path("l"), std::fs::Permissions::from_mode(0o755)).unwrap();
    refused(
        &command.output().unwrap(),
        REFUSED,
        &["write to upper", "Permission denied"],
    );
}

/// What a user may not read or search, each with the role in the message.
#[test]
fn unreadable() {
    if !needs_root() {
        return;
    }
    let table: [(&str, &str, &str); 7] = [
        ("l", "chmod 700 l", "read lower directory"),
        ("u", "chmod 700 u", "read upper directory"),
        (
            "u",
            "chown 65534 u; mkdir -m 700 u.work",
            "read work directory",
        ),
        ("p/l", "mkdir -p p/l; chmod 700 p", "lower directory"),
        ("p/u", "mkdir -p p/u; chmod 700 p", "upper directory"),
        ("p/m", "mkdir -p p/m; chmod 700 p", "mountpoint"),
        ("u", "chmod 555 .", "create work directory"),
    ];
    for (path, setup, message) in table {
        let place = Place::new();
        chown(place.path(""), Some(65534), Some(65534)).unwrap();
        let prepared = std::process::Command::new("sh")
            .args(["-c", setup])
            .current_dir(place.path(""))
            .status();
        assert!(prepared.unwrap().success());
        let part = |name: &str| match path.strip_prefix("p/") == Some(name) {
            true => place.path(path),
            false => place.path(name),
        };
        let (lower, upper) = (part("l"), part("u"));
        let options = format!(
            "backend=kernel,lowerdir={},upperdir={}",
            lower.display(),
            upper.display()
        );
        let mut command = place.command();
        command.arg("overlay").arg(part("m")).args(["-o", &options]);
        command.uid(65534).gid(65534);
        refused(
            &command.output().unwrap(),
            REFUSED,
            &[message, "Permission denied"],
        );
    }
}

#[test]
fn with_the_power_of_another_user() {
    if !needs_root() {
        return;
    }
    let place = Place::new();
    for (mode, owner) in [(0o4755, Some(0)), (0o2755, Some(0))] {
        chown(place.program(), owner, owner).unwrap();
        std::fs::set_permissions(place.program(), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = place.command();
        command.arg("--help").uid(65534).gid(65534);
        refused(
            &command.output().unwrap(),
            USAGE,
            &["does not run set-user-id"],
        );
    }
    chown(place.program(), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(place.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let capable = std::process::Command::new("setcap")
        .arg("cap_sys_admin+ep")
        .arg(place.program())
        .status();
    if !capable.is_ok_and(|status| status.success()) {
        return skip("there is no setcap(8), or no file capabilities here");
    }
    let mut command = place.command();
    command.arg("--help").uid(65534).gid(65534);
    refused(&command.output().unwrap(), USAGE, &["file capabilities"]);
}

#[test]
fn a_store_url_needs_the_program() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    let output = place.helper(&["local-overlay://?root=/m", &merged, "-fo", "backend=kernel"]);
    refused(
        &output,
        SYSTEM,
        &["only the program overstore reads it", "give lowerdir="],
    );
}

#[test]
fn nothing_to_refresh() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    for words in [
        &["--refresh", &merged][..],
        &["overlay", &merged, "-o", "remount"],
    ] {
        refused(
            &place.helper(words),
            REFUSED,
            &["no merged view is mounted there"],
        );
    }
}

#[test]
fn namespaces_that_are_none() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    for name in ["/etc/passwd", "/proc/self/ns/net", "0"] {
        let output = place.helper(&["overlay", &merged, "-N", name, "-o", &place.layers()]);
        refused(&output, SYSTEM, &["enter mount namespace"]);
    }
}
