// SPDX-License-Identifier: MIT OR Apache-2.0
//! `-o remount` on views that are mounted: what changes, and what cannot.

mod common;

use common::{Place, can, said, script, with_program};

#[test]
fn the_attributes_of_a_view_by_fuse_change() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        has() { grep " $D/m " /proc/self/mounts | cut -d' ' -f4 | sed 's/,user_id.*//'; }
        "$H" overlay "$D/m" -o "$O,backend=fuse"; has
        exec 3<m/low
        "$H" overlay "$D/m" -fo remount,ro; echo $?; has
        for words in rw,noexec,noatime ro ro,atime,nodiratime exec,rw,strictatime suid nosuid,dev nodev; do
            "$H" overlay "$D/m" -o "remount,$words"; echo $? "$(has)"
            touch m/new 2>/dev/null; echo $?
        done
        "$H" overlay "$D/m" -o remount,sync 2>&1 | sed "s|$D|D|"; has
        "$H" overlay "$D/m" -o remount,dirsync 2>/dev/null; echo $?
        cat <&3; exec 3<&-; bin/overstore umount "$D/m"
        "$H" overlay "$D/m" -o "$O,backend=fuse,ro"
        "$H" overlay "$D/m" -o remount,rw 2>&1 | sed "s|$D|D|"
        "$H" overlay "$D/m" -o remount,rw 2>/dev/null; echo $?
        bin/overstore umount "$D/m"; echo $?
    "#;
    let settled = "of a view served by FUSE is settled when it is mounted; unmount it (overstore \
        umount) and mount it again\n";
    let fault = "mount.overstore: error: remount D/m:";
    let expected = format!(
        "rw,nosuid,nodev,relatime\n0\nrw,nosuid,nodev,relatime\n\
        0 rw,nosuid,nodev,noexec,noatime\n0\n\
        0 ro,nosuid,nodev,noexec,noatime\n1\n\
        0 ro,nosuid,nodev,noexec,nodiratime,relatime\n1\n\
        0 rw,nosuid,nodev,nodiratime\n0\n\
        0 rw,nodev,nodiratime\n0\n\
        0 rw,nosuid,nodiratime\n0\n\
        0 rw,nosuid,nodev,nodiratime\n0\n\
        {fault} sync or dirsync {settled}rw,nosuid,nodev,nodiratime\n1\n\
        from the lower\n{fault} ro {settled}1\n0\n"
    );
    said(&script(&place, &["-m"], life), &expected);
}

/// Asks every kind of view for every option of the driver.
const EVERY_OPTION: &str = r#"
    for backend in fuse kernel; do
        "$H" overlay "$D/m" -o "$O,backend=$backend"
        for option in repair norepair record norecord xattr noxattr lower-ttl=3 watch=off allow_other noallow_other; do
            "$H" overlay "$D/m" -o "remount,noexec,$option" 2>err; echo $?
            sed 's/.*error: //' err
        done
        "$H" overlay "$D/m" -o remount,wibble 2>&1 | grep -o 'option wibble: unknown'
        grep -c " $D/m .*noexec" /proc/self/mounts
        "$H" overlay "$D/m" -so remount,noexec,repair,wibble; echo $?
        grep -c " $D/m .*noexec" /proc/self/mounts
        bin/overstore umount "$D/m"
    done
"#;

#[test]
fn options_of_the_driver_are_not_passed_over() {
    let place = Place::new();
    if !with_program(&place) || !can(&place, "-m") {
        return;
    }
    let mut expected = String::new();
    for option in [
        "repair",
        "norepair",
        "record",
        "norecord",
        "xattr",
        "noxattr",
        "lower-ttl",
        "watch",
        "allow_other",
        "noallow_other",
    ] {
        let way = match option {
            "repair" => "use `overstore repair on`",
            "norepair" => "use `overstore repair off`",
            _ => "unmount (overstore umount) and mount again, or pass over it with -s",
        };
        expected += &format!("1\noption {option}: a remount does not change it; {way}\n");
    }
    expected += "option wibble: unknown\n0\n0\n1\n";
    // The kernel does nothing else than some of them ask for.
    for option in [
        "repair",
        "",
        "record",
        "",
        "xattr",
        "",
        "lower-ttl",
        "watch",
        "",
        "noallow_other",
    ] {
        expected += &match option {
            "" => "0\n".to_owned(),
            _ => format!("1\noption {option}: the kernel backend has none; leave it out\n"),
        };
    }
    expected += "option wibble: unknown\n1\n0\n1\n";
    said(&script(&place, &["-m"], EVERY_OPTION), &expected);
}

/// What may be raised is for the kernel to say.
#[test]
fn what_the_owner_of_the_mount_forbids_stays_forbidden() {
    let place = Place::new();
    if !with_program(&place) || !can(&place, "-Urm") {
        return;
    }
    let life = r#"
        for backend in fuse kernel; do
            "$H" overlay "$D/m" -o "$O,backend=$backend"
            unshare -Urm sh -c '
                "$H" overlay "$D/m" -o remount,suid 2>err; echo $?
                sed "s|$D|D|" err; grep -c " $D/m .*nosuid" /proc/self/mounts
                [ $0 = kernel ] || { "$H" overlay "$D/m" -o remount,noexec; echo $?; }
                grep -c " $D/m .*noexec" /proc/self/mounts' $backend
            bin/overstore umount "$D/m"
        done
    "#;
    let refused = "1\nmount.overstore: error: remount D/m: Operation not permitted; run it as root; \
        what the owner of a mount has forbidden (suid, dev, exec, rw) only the owner allows again\n1\n";
    let expected = format!("{refused}0\n1\n{refused}0\n");
    said(&script(&place, &["-m"], life), &expected);
}

/// mount(8) finds the helper by a line of fstab.
#[test]
fn by_mount_and_a_line_of_fstab() {
    let place = Place::new();
    if !with_program(&place) {
        return;
    }
    let life = r#"
        mkdir sbin && cp bin/* sbin && mount --bind sbin "$(readlink -f /sbin)"
        echo "overlay $D/m overstore $O,backend=fuse,nofail,x-a=b 0 0" >fstab
        mount -T "$D/fstab" "$D/m"; echo $?
        mount -T "$D/fstab" -o remount,ro "$D/m"; echo $?
        touch m/new 2>/dev/null; echo $?
        mount -T "$D/fstab" -o remount,rw "$D/m"; echo $?
        touch m/new; echo $?
        umount "$D/m"; echo $?
    "#;
    said(&script(&place, &["-m"], life), "0\n0\n1\n0\n0\n0\n");
}
