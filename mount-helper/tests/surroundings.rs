// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers that pass on a hostile environment: variables, descriptors, limits, directories.
//!
//! Invariant: none of it changes what is mounted, an exit code, or the one line of an error.

mod common;

use common::{Place, can, in_namespace, needs_root, said};

/// Runs a script in which `M` mounts and `E` fails: it prints the exit code, and for `M` what the
/// view shows.
fn surrounded(script: &str, expected: &str) {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let prologue = r#"
        H="$D/bin/mount.overstore" K="$O,backend=kernel"
        shown() { echo $?; cat "$D/m/low"; umount "$D/m"; }
    "#;
    let output = in_namespace(&place, "-m", &format!("{prologue}{script}"));
    said(&output, expected);
}

const MOUNTED: &str = "0\nfrom the lower\n";

#[test]
fn variables() {
    let script = r#"
        mkdir evil; printf '#!/bin/sh\necho evil\n' >evil/overstore; chmod 755 evil/overstore
        env -i PATH="$D/evil" LD_LIBRARY_PATH="$D/evil" NIX_REMOTE=local-overlay://x IFS=/ \
            OVERSTORE_STORE=local-overlay://x HOME= TMPDIR=/none RUST_BACKTRACE=full \
            "$H" overlay "$D/m" -o "$O" 2>&1 |
            grep -o "using the kernel's OverlayFS: the program overstore is neither"
        shown
        LD_PRELOAD=/none.so LD_AUDIT=/none.so "$H" overlay "$D/m" -o "$K" 2>/dev/null; shown
        big=$(head -c 120000 /dev/zero | tr '\0' x)
        env A="$big" B="$big" C="$big" D1="$big" "$H" overlay "$D/m" -o "$K"; shown
        LC_ALL=xx_XX.UTF-8 LANGUAGE=de LANG=de_DE "$H" overlay "$D/none" -o "$K" 2>&1 | sed "s|$D|D|g"
        env -i "$H" overlay "$D/m" -o "$O,backend=fuse" 2>&1 | grep -o 'the program overstore is neither'
    "#;
    let neither = "the program overstore is neither\n";
    let missing = "mount.overstore: error: mountpoint D/none: No such file or directory; \
        create it: mkdir -p\n";
    let expected = format!(
        "using the kernel's OverlayFS: {neither}{}{missing}{neither}",
        MOUNTED.repeat(3)
    );
    surrounded(script, &expected);
}

#[test]
fn descriptors() {
    let script = r#"
        "$H" overlay "$D/m" -o "$K" 0<&- 1>&- 2>&-; shown
        "$H" overlay "$D/m" -vo "$K" >/dev/full 2>&1; shown
        "$H" overlay "$D/m" -o wibble 0<&- 1>&- 2>&-; echo $?
        "$H" overlay "$D/none" -o "$K" 2>/dev/full; echo $?
        "$H" --help >/dev/full 2>/dev/null; echo $?
        ("$H" --help | true) 2>&1
        strace -qq -o log -e trace=%file,%desc sh -c 'exec "$0" "$@" 0<&- 1>&- 2>&-' \
            "$H" overlay "$D/m" -o "$K"; shown
        # Once the three are taken, by /dev/null, nothing else ever has their numbers.
        sed '1,/"\/dev\/null"/d' log | grep '^\(open\|dup\|fsopen\|fsmount\|fcntl.*DUPFD\).* = [012]$' | grep -v '^dup(0)'
        grep -c '"/dev/null".* = 0$' log
    "#;
    surrounded(
        script,
        &format!("{}1\n32\n2\n{MOUNTED}1\n", MOUNTED.repeat(2)),
    );
}

#[test]
fn limits_and_directories() {
    let script = r#"
        mkdir gone; cd gone; rmdir "$D/gone"
        (ulimit -f 0; umask 777; "$H" overlay "$D/m" -o "$K"); shown
        (umask 0; "$H" overlay "$D/m" -o "$K"); shown
        stat -c %a "$D/u.work"
        cd "$D"
        few() { sh -c 'ulimit -n 4; exec "$0" "$@"' "$H" overlay "$D/m" -o "$K"; }
        few 2>&1 | sed "s|$D|D|g"; few 2>/dev/null; echo $?
        grep -c " $D/m " /proc/self/mounts
    "#;
    let expected = format!(
        "{}755\nmount.overstore: error: upper directory /tmp: Too many open files\n2\n0\n",
        MOUNTED.repeat(2)
    );
    surrounded(script, &expected);
}
