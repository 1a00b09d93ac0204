// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper and the program `overstore` together: FUSE, store URLs, `mount --backend`.
//!
//! Needs the program beside the helper, where `cargo build --workspace` puts it.

mod common;

use common::{NOT_TAKEN, Place, said, script, with_program};
use std::process::Command;

#[test]
fn fuse_is_the_first_choice() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        type() { grep " $D/m " /proc/self/mounts | cut -d' ' -f1,3 | cut -d, -f1; }
        mkdir m2
        for backend in "" ,backend=auto ,backend=fuse,watch=off; do
            "$H" overlay "$D/m" -o "$O$backend,nofail,x-a=b"; echo $? "$(type)"
            cat m/low
            "$H" overlay "$D/m" -o "$O$backend" 2>/dev/null; echo $?
            "$H" overlay "$D/m2" -o "$O,backend=kernel" 2>&1 | grep -o 'in use by the view at'
            "$H" overlay "$D/m" -o remount; echo $?
            "$H" --refresh "$D/m"; echo $?
            bin/overstore umount "$D/m"; echo $?
        done
        "$H" overlay "$D/m" -o "$O" -t overstore.kernel; echo $? "$(type)"
        bin/overstore umount "$D/m"
        "$H" overlay "$D/m" -f -o "$O" | cut -d, -f1; echo "$(type)"
        "$H" overlay "$D/m" -f -o "$O,lower-ttl=never" 2>&1; echo $?
        "$H" overlay "$D/m" -f -o "$O,backend=fuse,upperdir=/none/u" 2>/dev/null; echo $?
    "#;
    let one = "0 overlay fuse.overstore\nfrom the lower\n32\nin use by the view at\n0\n0\n0\n";
    let rest = "0 overlay overlay\nusing FUSE\n\n\
        error: option lower-ttl=never: not a time; write a time such as 0, 500ms, 1s or 2m\n1\n32\n";
    said(
        &script(&place, &["-m"], life),
        &format!("{}{rest}", one.repeat(3)),
    );
}

#[test]
fn the_kernel_is_used_where_fuse_does_not_work() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        mount --bind /dev/null /dev/fuse; mount -o remount,bind,nodev /dev/fuse
        "$H" overlay "$D/m" -o "$O" 2>&1 | grep -o "OverlayFS.*/dev/fuse" | cut -c1-9
        grep -c " $D/m overlay rw,nosuid,nodev,relatime,lowerdir=$D/l,upperdir=$D/u," /proc/self/mounts
        bin/overstore umount "$D/m"
        for option in repair lower-ttl=3; do
            "$H" overlay "$D/m" -o "$O,$option" 2>&1 | grep -o "option ${option%=*}: the kernel backend has none"
            "$H" overlay "$D/m" -o "$O,$option" 2>/dev/null; echo $?
        done
        "$H" overlay "$D/m" -so "$O,lower-ttl=3,wibble" 2>/dev/null; echo $?; bin/overstore umount "$D/m"
        "$H" overlay "$D/m" -o "$O,backend=fuse" 2>&1 | grep -o /dev/fuse | head -1
        bin/overstore mount -o "$O" "$D/m" 2>&1 | grep -o "OverlayFS.*/dev/fuse" | cut -c1-9
        bin/overstore status | sed "s|$D|D|g" | head -4; bin/overstore umount "$D/m"; ls m
    "#;
    let expected = "OverlayFS\n1\n\
        option repair: the kernel backend has none\n1\n\
        option lower-ttl: the kernel backend has none\n1\n\
        0\n/dev/fuse\nOverlayFS\n\
        D/m\n  lower    D/l\n  upper    D/u\n  served   kernel, alive\n";
    said(&script(&place, &["-m"], life), expected);
}

#[test]
fn mount_by_the_kernel_is_seen_and_ended_like_any_view() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        M="bin/overstore mount --backend kernel"
        $M --dry-run -o "$O" "$D/m"; echo $?; ls
        $M -o "$O,noexec,noatime" "$D/m"; echo $?
        grep -o 'rw,nosuid,nodev,noexec,noatime,lowerdir=' /proc/self/mounts
        bin/overstore status --json "$D/m" | grep -o '"backend": "kernel"'
        $M -o "$O" "$D/m" 2>&1 | grep -o 'mount on .*: [a-z ]*' | sed "s|$D|D|g" | cut -c1-13; echo new > m/new; cat u/new
        bin/overstore umount "$D/m"; echo $?; ls m | wc -l
        $M -o "$O,repair" "$D/m" 2>/dev/null; echo $?
        $M -o "lowerdir=$D/l,upperdir=$D/u,workdir=/dev/shm" "$D/m" 2>/dev/null; echo $?
        $M -o "lowerdir=$D/l,upperdir=$D/u,workdir=$D/w" "$D/m" 2>&1 | grep -c "$D/w: No such file"; ls -d w 2>/dev/null
        bin/overstore run --backend kernel -o "lowerdir=$D/l,upperdir=$D/u,workdir=$D/w" -- true 2>&1 | grep -c "$D/w: No such file"; ls -d w 2>/dev/null
    "#;
    let expected = "using the kernel's OverlayFS, as asked\n0\nbin\nl\nm\nu\n0\nrw,nosuid,nodev,noexec,noatime,lowerdir=\n\
        \"backend\": \"kernel\"\nmount on D/m:\nnew\n0\n0\n2\n2\n1\n1\n";
    for flags in [&["-m"][..], &["-Urm"]] {
        let output = script(&place, flags, life);
        said(&output, expected);
        let cleared = Command::new("sh")
            .args(["-c", "rm -rf u.work u/new"])
            .current_dir(place.path(""))
            .status();
        assert!(cleared.unwrap().success());
    }
}

/// A bind mount of a parent gives the upper another path; the driver is not deceived either.
#[test]
fn an_upper_that_the_kernel_has_by_another_name() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        mkdir -p p/u again m2; mount --bind p again
        "$H" overlay "$D/m" -o "lowerdir=$D/l,upperdir=$D/p/u,backend=kernel"; echo $?
        for backend in fuse auto; do
            bin/overstore mount --backend $backend -o "lowerdir=$D/l,upperdir=$D/again/u" "$D/m2" 2>&1 |
                grep -o 'in use by the view at [^;]*/m;' | sed "s|$D|D|g"
        done
        grep -c " $D/m2 " /proc/self/mounts
        bin/overstore umount "$D/m"
        "$H" overlay "$D/m2" -o "lowerdir=$D/l,upperdir=$D/again/u,backend=fuse"; echo $?
        bin/overstore umount "$D/m2"
    "#;
    let refused = "in use by the view at D/m;\n";
    let expected = format!("0\n{refused}{refused}0\n0\n");
    said(&script(&place, &["-m"], life), &expected);
}

#[test]
fn a_store_url_is_mounted_by_either_backend() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        mkdir -p low/nix/store low/nix/var/nix top; echo from > low/nix/store/low
        URL="local-overlay://?root=$D/top&lower-store=$D/low&upper-layer=$D/u"
        for backend in kernel fuse; do
            "$H" "$URL" "$D/top/nix/store" -o "backend=$backend,x-a"; echo $?
            cat top/nix/store/low; grep " $D/top/nix/store " /proc/self/mounts | cut -d' ' -f3 | cut -d, -f1
            bin/overstore umount top/nix/store
        done
        "$H" "$URL" "$D/elsewhere" -o backend=kernel 2>/dev/null; echo $?
        "$H" "local-overlay://?wrong" "$D/m" 2>/dev/null; echo $?
    "#;
    let expected = "0\nfrom\noverlay\n0\nfrom\nfuse.overstore\n1\n1\n";
    said(&script(&place, &["-m"], life), expected);
}

/// Where the kernel says no, the message points to FUSE: it must be able to.
#[test]
fn fuse_takes_what_the_kernel_does_not() {
    for (setup, layers, _, look) in NOT_TAKEN {
        let place = Place::new();
        if !with_program(&place) {
            return;
        }
        let life = format!(
            r#"{setup}
            "$H" overlay "$D/m" -o "{layers},backend=kernel" 2>/dev/null; echo $?
            "$H" overlay "$D/m" -o "{layers},backend=fuse"; echo $?
            {look}; echo $?
            case {layers} in
                *,ro) touch m/new 2>/dev/null; echo $? ;;
                *) touch m/new; ls u/new */up/new 2>/dev/null | head -1 | wc -l ;;
            esac
            bin/overstore umount "$D/m"; echo $?"#
        );
        said(&script(&place, &["-m"], &life), "32\n0\n0\n1\n0\n");
    }
}

/// What is in the environment of the caller does not reach the driver.
#[test]
fn the_driver_sees_a_clean_environment() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        mkdir evil; for name in overstore fusermount3 sh; do
            printf '#!/bin/sh\necho evil >&2\n' >evil/$name; chmod 755 evil/$name
        done
        env -i PATH="$D/evil" LD_LIBRARY_PATH="$D/evil" OVERSTORE_STORE=local-overlay://x TMPDIR=/none \
            NIX_REMOTE=local-overlay://x NIX_STORE_DIR=/evil HOME="$D/evil" OVERSTORE_LOG=debug \
            "$H" overlay "$D/m" -o "$O,backend=fuse" 0<&- 1>&- 2>&-; echo $?
        cat m/low
        pid=$(bin/overstore status --json "$D/m" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        tr '\0' '\n' <"/proc/$pid/environ" | cut -d= -f1
        for fd in 0 1 2; do readlink "/proc/$pid/fd/$fd"; done
        ls -l "/proc/$pid/fd" | grep -c -- "-> $D/m"
        bin/overstore umount "$D/m"
    "#;
    let expected = "0\nfrom the lower\nPATH\n/dev/null\n/dev/null\n/dev/null\n0\n";
    said(&script(&place, &["-m"], life), expected);
}
