// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels that lack an interface, and filesystems that OverlayFS does not take.

mod common;

use common::{NOT_TAKEN, Place, can, escaped, in_namespace, needs_root, said, text};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What older kernels, and filters of containers, answer; and what the helper then mounts by.
const OLDER: [(&str, &str); 5] = [
    // Linux 6.13 and later.
    ("fsopen:error=ENOSYS:when=9", "Descriptors"),
    // Before 6.13 no layer is taken by descriptor: that is the third option.
    ("fsconfig:error=EINVAL:when=3", "Paths"),
    // Before 6.5 OverlayFS is not configured by options one by one.
    ("fsconfig:error=EINVAL", "Classic"),
    // Before 5.2 there is no such call, and seccomp filters do not let it through.
    ("fsopen:error=ENOSYS", "Classic"),
    ("fsopen:error=EPERM", "Classic"),
];

/// Mounts with a kernel that answers so, and says by what.
const MOUNT: &str = r#"
    strace -f -qq -o log -e trace=fsopen,fsconfig,mount -e "inject=$INJECT" \
        bin/mount.overstore overlay "$X/m" -v -o "$(cat options)" 2>&1 | grep -o '([A-Z][a-z]*,'
    cat "$X/m/low"; echo new >"$X/m/new"; cat "$X/u/new"; mkdir "$X/m/d"; mv "$X/m/d" "$X/m/e"
    umount "$X/m"; ls "$X/m"
"#;

#[test]
fn any_path_is_mounted_by_any_kernel() {
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let long = "n".repeat(200);
    let long = format!("{long}/{long}");
    let names: [&[u8]; 7] = [
        b"plain",
        b"a,b",
        b"a:b",
        b"a\\b",
        b"a b+c",
        b"a\\,b\\:c",
        long.as_bytes(),
    ];
    for (number, name) in names.into_iter().enumerate() {
        for (inject, way) in OLDER {
            let place = Place::new();
            let base = place.path("").join(OsString::from_vec(name.to_vec()));
            let [lower, upper, merged] = ["l", "u", "m"].map(|part| base.join(part));
            for directory in [&lower, &upper, &merged] {
                fs::create_dir_all(directory).unwrap();
            }
            fs::write(lower.join("low"), "low\n").unwrap();
            let options = [
                b"backend=kernel,nix-check=off,lowerdir=".as_slice(),
                &escaped(&lower),
                b",upperdir=",
                &escaped(&upper),
            ];
            fs::write(place.path("options"), options.concat()).unwrap();
            fs::write(place.path("base"), base.as_os_str().as_bytes()).unwrap();
            let script = format!("INJECT={inject}; X=$(cat base); {MOUNT}");
            // What does not fit into one option of the newer interfaces goes to the oldest.
            let way = if name.len() > 255 { "Classic" } else { way };
            let flags = if number % 2 == 0 { "-Urm" } else { "-m" };
            if flags == "-Urm" || needs_root() {
                said(
                    &in_namespace(&place, flags, &script),
                    &format!("({way},\nlow\nnew\n"),
                );
            }
        }
    }
}

#[test]
fn paths_that_are_too_long_together() {
    let place = Place::new();
    if !can(&place, "-Urm") {
        return;
    }
    let part = "n".repeat(250);
    let deep = |top: &str| {
        let mut path = place.path(top);
        while path.as_os_str().len() < 2200 {
            path.push(&part);
        }
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let options = format!(
        "backend=kernel,lowerdir={},upperdir={}",
        deep("l"),
        deep("u")
    );
    fs::write(place.path("options"), options).unwrap();
    let script = r#"
        bin/mount.overstore overlay "$D/m" -o "$(cat options)" 2>&1 | sed "s|$D|D|g"
        bin/mount.overstore overlay "$D/m" -o "$(cat options)" 2>/dev/null; echo $?
        find u -name '*.work'
    "#;
    let expected = "mount.overstore: error: mount on D/m: the paths of the layers are too long \
        together; the FUSE backend can take it (backend=fuse)\n32\n";
    said(&in_namespace(&place, "-Urm", script), expected);
}

#[test]
fn filesystems_that_the_kernel_does_not_take() {
    for (setup, layers, parts, _) in NOT_TAKEN {
        let place = Place::new();
        if !needs_root() || !can(&place, "-m") {
            return;
        }
        let script = format!(
            r#"{setup}
            bin/mount.overstore overlay "$D/m" -o "{layers},backend=kernel"; echo $?
            grep -c " $D/m " /proc/self/mounts
            find . -name '*.work' ! -path './*/up.work'; umount -l b 2>/dev/null"#
        );
        let output = in_namespace(&place, "-m", &script);
        said(&output, "32\n0\n");
        let message = text(&output.stderr);
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
    }
}

/// Stops the helper when mount(2) is done, by which a lower with so long a path is mounted, has `$SWAP` change the place, and lets it go on. Prints
/// the exit code, what it said, and what is mounted below the place then.
const SWAPPED: &str = r#"
    n=$(printf 'n%.0s' $(seq 200)); L=$n/$n/l
    mkdir -p p/m v/m other $L; mount -t tmpfs somebody v/m
    strace -f -qq -o log -e trace=mount -e inject=mount:signal=STOP sh -c 'echo $$ >pid; exec bin/mount.overstore overlay \
        "$D/p/m" -o "lowerdir=$D/$0,upperdir=$D/u,backend=kernel"' $L 2>err &
    for round in $(seq 400); do grep -q " $D/p/m overlay" /proc/self/mounts && break; sleep 0.05; done
    mv $L was && mv other $L
    eval "$SWAP"
    kill -CONT "$(cat pid)"; wait $!; echo $?
    sed "s|$D|D|g; s|$n|n|g" err
    cut -d' ' -f1,2 /proc/self/mounts | sed -n "s| $D| D|p"
"#;

#[test]
fn only_its_own_mount_is_taken_back() {
    let replaced = "32\nmount.overstore: error: lower directory D/n/n/l: it was replaced by \
        another directory meanwhile";
    let table = [
        ("true", "\nsomebody D/v/m\n"),
        (
            "mount -t tmpfs another p/m",
            "; the view is left mounted at D/p/m: mountpoint D/p/m: something else is mounted there \
             now\nsomebody D/v/m\noverlay D/p/m\nanother D/p/m\n",
        ),
        (
            "mount -t overlay overlay -o lowerdir=was:l p/m",
            "; the view is left mounted at D/p/m: mountpoint D/p/m: something else is mounted there \
             now\nsomebody D/v/m\noverlay D/p/m\noverlay D/p/m\n",
        ),
        (
            "mv p q; ln -s v p",
            "; the view is left mounted at D/p/m: mountpoint D/p/m: D/p is a symlink; name the \
             directory itself: D/v/m\nsomebody D/v/m\noverlay D/q/m\n",
        ),
        (
            "mv p q; mv v p",
            "; the view is left mounted at D/p/m: mountpoint D/p/m: something else is mounted there \
             now\nsomebody D/p/m\noverlay D/q/m\n",
        ),
    ];
    for (swap, expected) in table {
        let place = Place::new();
        if !needs_root() || !can(&place, "-m") {
            return;
        }
        let script = format!("SWAP='{swap}'; {SWAPPED}");
        let output = in_namespace(&place, "-m", &script);
        said(&output, &format!("{replaced}{expected}"));
    }
}

/// Before Linux 5.8 statx does not tell the mount: of several at one place, the topmost counts.
#[test]
fn the_topmost_mount_counts_without_statx() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        old() { strace -f -qq -o log -e trace=statx -e inject=statx:error=ENOSYS "$@" 2>&1 | sed "s|$D|D|g"; }
        mkdir u2; mount="bin/mount.overstore overlay $D/m -o backend=kernel,lowerdir=$D/l"
        old $mount,upperdir=$D/u; cat m/low
        old $mount,upperdir=$D/u2 | cut -d';' -f1
        old bin/mount.overstore --refresh "$D/m"; echo refreshed
        mount -t tmpfs -o ro somebody m
        old bin/mount.overstore overlay "$D/m" -o remount,rw
        grep -c "^somebody $D/m tmpfs ro," /proc/self/mounts
        umount m; umount m; mount -t tmpfs somebody m
        old $mount,upperdir=$D/u2; cat m/low; old bin/mount.overstore --refresh "$D/m"; echo refreshed
    "#;
    let expected = "from the lower\n\
        mount.overstore: error: mountpoint D/m: a merged view (kernel) is mounted there already\n\
        refreshed\n\
        mount.overstore: error: mountpoint D/m: no merged view is mounted there\n1\n\
        from the lower\nrefreshed\n";
    said(&in_namespace(&place, "-m", script), expected);
}
