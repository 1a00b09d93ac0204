// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of a mount, from its start to its end, by every user and by both backends.

use crate::place::*;
use crate::run::run_table;
use crate::skip::skip;

/// The mount table of a namespace is seen from inside only: the whole life is one script.
const LIFE: &str = r#"
set -e
"$O" mount -o "$LAYERS" "$M"
cat "$M/low"
grep " $M " /proc/self/mounts
"$O" status "$M" --json
if "$O" mount -o "$LAYERS" "$M"; then echo "mounted twice"; fi
"$O" umount "$M"
if grep " $M " /proc/self/mounts; then echo "still mounted"; fi
"#;

fn life(who: Who) {
    if !can(who) {
        return;
    }
    let place = Place::new(who);
    let output = place.shell(LIFE).output().unwrap();
    assert_ok(&output);
    let text = stdout(&output);
    let seen = format!("fuse.overstore,{}", place.layers());
    assert!(text.starts_with("from the lower\noverlay "), "{text}");
    assert!(text.contains(&seen), "{text}");
    assert!(text.contains(r#""state": "alive""#), "{text}");
    assert!(!text.contains("mounted"), "{text}");
    assert!(
        stderr(&output).contains("already mounted, by pid"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn root_mounts_and_unmounts() {
    life(Who::Root);
}

#[test]
fn root_of_a_user_namespace_mounts_and_unmounts() {
    life(Who::NamespaceRoot);
}

#[test]
fn a_plain_user_mounts_and_unmounts() {
    life(Who::Plain);
}

/// A store URL is all that is needed: what Nix would create is created.
#[test]
fn a_store_url_mounts_and_creates_what_nix_would() {
    const SCRIPT: &str = r#"
        set -e
        url="local-overlay://?root=$PWD/root&lower-store=local%3A//%3Freal%3D$PWD/l&upper-layer=$PWD/fresh"
        "$O" mount "$url&frobnicate=1"
        cat root/nix/store/low
        ls root/nix/var/nix/db/db.sqlite
        NIX_REMOTE="$url" "$O" mount || echo "twice: $?"
        NIX_REMOTE="$url" "$O" run -- cat /nix/store/low
        "$O" umount root/nix/store
        "$O" mount "$url" "$PWD/elsewhere" || echo "elsewhere: $?"
        "$O" mount "local-overlay://?root=$PWD/r&lower-store=$PWD/none&upper-layer=$PWD/other" || ls -d r other || :
    "#;
    let wanted =
        "from the lower\nroot/nix/var/nix/db/db.sqlite\ntwice: 3\nfrom the lower\nelsewhere: 2\n";
    for who in [Who::Root, Who::NamespaceRoot, Who::Plain] {
        if !can(who) {
            continue;
        }
        let place = Place::new(who);
        let output = place.shell(SCRIPT).output().unwrap();
        assert_eq!(stdout(&output), wanted, "{who:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with("warning: unknown setting 'frobnicate'"),
            "{}",
            stderr(&output)
        );
    }
}

/// Drivers that start at the same time do not end up on top of each other.
#[test]
fn of_several_starts_one_wins() {
    const SCRIPT: &str = r#"
        for i in 1 2 3 4 5; do "$O" mount -o "$LAYERS" "$M" 2>/dev/null && echo mounted & done; wait
        grep -c " $M " /proc/self/mounts; "$O" umount "$M"
    "#;
    run_table(Who::Root, &[(SCRIPT, "mounted\n1\n")]);
    run_table(Who::Plain, &[(SCRIPT, "mounted\n1\n")]);
}
/// What every command says and does about a view that the kernel serves.
#[test]
fn a_view_of_the_kernel() {
    const SCRIPT: &str = r#"
        mkdir -m 755 d && echo lower > l/dup && echo upper > u/dup
        "$O" mount --backend kernel -o "$LAYERS" "$M" || exit 9
        "$O" status "$M" | sed "s|$PWD|D|g"
        "$O" status --json "$M" | grep -c '"backend": "kernel"'
        cat m/dup; rm u/dup; "$O" sync "$M"; echo $?; cat m/dup
        cd d; "$O" sync ../m; echo $?; cd ..; ln -s m way; "$O" sync way; echo $?
        "$O" repair on "$M" 2>&1 | sed "s|$PWD|D|g"
        "$O" mount --backend kernel -o "$LAYERS" "$M" 2>&1 | grep -c 'already'
        mkdir other; "$O" mount --backend fuse -o "$LAYERS" other 2>&1 | sed "s|$PWD|D|g"
        "$O" run -o "$LAYERS" -- true 2>&1 | grep -c 'in use by the view'
        "$O" mount --backend fuse -o "ro,$LAYERS" other && cat other/dup && "$O" umount other
        "$O" umount "$M"; echo $?; ls m | wc -l
        "$O" sync "$M" 2>/dev/null; echo $?
    "#;
    for who in [Who::Root, Who::NamespaceRoot] {
        if !can(who) {
            continue;
        }
        let output = Place::new(who).shell(SCRIPT).output().unwrap();
        if output.status.code() == Some(9) {
            skip("the kernel's OverlayFS cannot be mounted here");
            continue;
        }
        let expected = "D/m\n  lower    D/l\n  upper    D/u\n  served   kernel, alive\n\
            \x20 changes  show after overstore sync\n\
            1\nupper\n0\nlower\n0\n0\n\
            error: switch repair of D/m: the kernel serves it; there is nothing to switch: \
            OverlayFS always lets lower objects be replaced\n1\n\
            error: write to upper directory D/u: in use by the view at D/m; \
            unmount it first: overstore umount D/m; or mount with `-o ro`\n1\nlower\n\
            0\n0\n1\n";
        assert_eq!(stdout(&output), expected, "{who:?}: {}", stderr(&output));
    }
}
