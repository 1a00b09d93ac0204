// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the kernel refuses, told alike on kernels that lack an interface.

mod common;

use common::{NOT_TAKEN, Place, can, in_namespace, needs_root, said, text};

/// What older kernels, and filters of containers, answer, and whether mount(2) is left alone then,
/// which has no words.
const OLDER: [(&str, bool); 5] = [
    ("fsconfig:error=EINVAL:when=3", false),
    ("fsconfig:error=EINVAL", true),
    ("fsconfig:error=EPERM", true),
    ("fsopen:error=ENOSYS", true),
    ("fsopen:error=EPERM", true),
];

/// What is said instead where the kernel has no words; in the order of the table.
const WITHOUT_WORDS: [Option<&str>; 4] = [
    Some(
        "Invalid argument; the kernel's log (dmesg) says why; the lower is on proc, the upper on ",
    ),
    None,
    Some("Invalid argument; OverlayFS takes no upper that is on an overlay; the lower is on "),
    None,
];

#[test]
fn a_refusal_is_told_alike_on_any_kernel() {
    for (number, (setup, layers, parts, _)) in NOT_TAKEN.into_iter().enumerate() {
        for (inject, wordless) in OLDER {
            let place = Place::new();
            if !needs_root() || !can(&place, "-m") {
                return;
            }
            let script = format!(
                r#"{setup}
                strace -f -qq -o log -e trace=fsopen,fsconfig -e inject={inject} \
                    bin/mount.overstore overlay "$D/m" -o "{layers},backend=kernel"; echo $?
                grep -c " $D/m " /proc/self/mounts; umount -l b 2>/dev/null"#
            );
            let output = in_namespace(&place, "-m", &script);
            let message = text(&output.stderr);
            said(&output, "32\n0\n");
            assert_eq!(message.lines().count(), 1, "{message}");
            let other = WITHOUT_WORDS.get(number).copied().flatten();
            let expected = match other.filter(|_| wordless) {
                Some(words) => vec![words, "the FUSE backend can take it (backend=fuse)"],
                None => parts.to_vec(),
            };
            for part in expected {
                assert!(
                    message.contains(part),
                    "{inject}: {part:?} is not in {message}"
                );
            }
        }
    }
}

/// Where the interface is all that is wrong, that is what is told.
#[test]
fn without_any_interface_the_last_one_is_told() {
    let place = Place::new();
    if !can(&place, "-m") || !needs_root() {
        return;
    }
    let script = r#"
        for error in ENODEV EPERM ENOSYS; do
            strace -f -qq -o log -e trace=fsopen,mount -e inject=fsopen:error=ENOSYS \
                -e inject=mount:error=$error bin/mount.overstore overlay "$D/m" -o "$O,backend=kernel" 2>err
            echo $?; sed 's/.*OverlayFS on [^:]*: //' err
        done
    "#;
    let output = in_namespace(&place, "-m", script);
    let told = text(&output.stdout);
    let lines: Vec<_> = told.lines().collect();
    assert!(
        matches!(lines[..], ["32", nodev, "1", perm, "32", nosys]
            if nodev.starts_with("No such device; the kernel has no OverlayFS: as root run")
            && perm.starts_with("Operation not permitted; run it as root")
            && nosys.starts_with("Function not implemented; ")),
        "{told}"
    );
}

/// What this program itself finds is not hidden by an interface that is missing.
#[test]
fn paths_that_are_too_long_are_the_reason_on_any_kernel() {
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let part = "n".repeat(250);
    let deep = |top: &str| {
        let path =
            std::iter::repeat_n(&part, 9).fold(place.path(top), |path, part| path.join(part));
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let options = format!(
        "backend=kernel,lowerdir={},upperdir={}",
        deep("l"),
        deep("u")
    );
    std::fs::write(place.path("options"), options).unwrap();
    let script = OLDER.map(|(inject, _)| {
        format!(
            r#"strace -f -qq -o log -e trace=fsopen,fsconfig -e inject={inject} \
                bin/mount.overstore overlay "$D/m" -o "$(cat options)" 2>err; echo $?
            sed 's|.*/m: ||' err
            "#
        )
    });
    let expected = "32\nthe paths of the layers are too long together; the FUSE backend can take it \
        (backend=fuse)\n";
    said(
        &in_namespace(&place, "-Urm", &script.concat()),
        &expected.repeat(OLDER.len()),
    );
}
