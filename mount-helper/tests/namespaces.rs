// SPDX-License-Identifier: MIT OR Apache-2.0
//! `-N`: the view is mounted in another mount namespace, of which nothing is run.

mod common;

use common::{Place, can, said, script, skip, with_program};

/// Starts a process in a mount namespace of its own, in which every place where the program may be
/// has another one, that leaves a trace.
const OTHER: &str = r#"
    mkfifo ready
    cat >fake <<END
#!/bin/sh
touch $D/ran
END
    chmod 755 fake
    unshare -m --propagation private sh -c '
        mkdir b; for place in bin /usr/local/bin /usr/bin; do
            mkdir -p b$place/up b$place/work
            cp fake b$place/up/overstore
            mount -t overlay o -o "lowerdir=$place,upperdir=b$place/up,workdir=b$place/work" $place
        done
        echo $$ >ready; exec sleep 100' &
    read other <ready
    inside() { nsenter -t "$other" -m "$@"; }
    listed() { inside grep -c " $D/m overlay " "/proc/$other/mounts"; }
"#;

#[test]
fn by_process_and_by_file_and_nothing_of_there_is_run() {
    let place = Place::new();
    if !with_program(&place) || !can(&place, "-m") {
        return;
    }
    let life = r#"
        inside test -x "$D/bin/overstore" -a -x /usr/local/bin/overstore; echo $?
        inside cmp -s "$D/fake" "$D/bin/overstore"; echo $?
        for name in "$other" "/proc/$other/ns/mnt"; do
            for backend in ,backend=kernel "" ,backend=auto; do
                "$H" overlay "$D/m" -N "$name" -o "$O$backend" 2>err; echo $? $(listed)
                grep -o "using the kernel's OverlayFS: option -N:.*" err | cut -c1-40
                grep -c " $D/m " /proc/self/mounts
                inside cat "$D/m/low"
                "$H" overlay "$D/m" -N "$name" -o "$O,remount,ro"; echo $?
                inside umount "$D/m"
            done
            "$H" overlay "$D/m" -N "$name" -o "$O,backend=fuse" 2>&1 | sed 's/;.*//'
            for backend in fuse auto kernel; do
                "$H" "local-overlay://?root=$D" "$D/m" -N "$name" -o backend=$backend 2>err; echo $?
                grep -o 'name backend=kernel, with lowerdir= and upperdir=$' err
            done
            "$H" overlay "$D/m" -N "$name" -o "$O,backend=fuse" 2>/dev/null; echo $? $(listed)
        done
        ls ran 2>/dev/null; kill "$other"
    "#;
    let fuse = "mount.overstore: error: option -N: the FUSE driver needs the program overstore, and \
        no program of another mount namespace is run\n";
    let kernel = "0 1\n0\nfrom the lower\n0\n";
    let auto = "0 1\nusing the kernel's OverlayFS: option -N:\n0\nfrom the lower\n0\n";
    let url = "1\nname backend=kernel, with lowerdir= and upperdir=\n".repeat(3);
    let one = format!("{kernel}{auto}{auto}{fuse}{url}1 0\n");
    let output = script(&place, &["-m"], &format!("{OTHER}{life}"));
    said(&output, &format!("0\n0\n{}", one.repeat(2)));
}

/// A view that FUSE serves there is left to the program of there.
#[test]
fn a_view_of_the_driver_is_not_remounted_from_outside() {
    let place = Place::new();
    if !with_program(&place) || !can(&place, "-m") {
        return;
    }
    let life = r#"
        cp bin/overstore real; inside "$D/real" mount -o "$O" "$D/m" 2>/dev/null; echo $?
        "$H" overlay "$D/m" -N "$other" -o remount,ro 2>&1 | grep -o 'option -N: .* needs the program'
        "$H" overlay "$D/m" -N "$other" -o remount,ro 2>/dev/null; echo $?
        inside touch "$D/m/new"; echo $?
        ls ran 2>/dev/null; inside "$D/real" umount "$D/m"; kill "$other"
    "#;
    let expected = "0\noption -N: a view served by FUSE needs the program\n1\n0\n";
    let output = script(&place, &["-m"], &format!("{OTHER}{life}"));
    said(&output, expected);
}

#[test]
fn a_file_that_is_no_mount_namespace_is_refused_at_once() {
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let tool = std::process::Command::new("timeout")
        .arg("--version")
        .output();
    if tool.is_err() {
        return skip("there is no timeout(1)");
    }
    let life = r#"
        mkfifo fifo; echo text >file
        for name in "$D/fifo" "$D/file" "$D" /dev/null /proc/self/ns/net "$D/none" 999999999; do
            timeout 20 "$H" overlay "$D/m" -N "$name" -o "$O,backend=kernel" 2>err; echo $?
            sed "s|$D|D|; s/.*namespace //" err
        done
    "#;
    let none = "the file is no mount namespace";
    let missing = "No such file or directory (os error 2)";
    let expected = format!(
        "2\nD/fifo: {none}\n2\nD/file: {none}\n2\nD: {none}\n2\n/dev/null: {none}\n\
         2\n/proc/self/ns/net: {none}\n2\nD/none: {missing}\n2\n/proc/999999999/ns/mnt: {missing}\n"
    );
    said(&script(&place, &["-Urm"], life), &expected);
}
