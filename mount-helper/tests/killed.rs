// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper killed before each of its system calls, run twice, and run by several at once.
//!
//! Invariant: whatever the first run left, the next one of the same request finds either the whole
//! view or nothing that is in its way.

mod common;

use common::{Place, can, in_namespace, needs_root, said, text};

/// Kills the helper before each call that it makes to mount; `$INJECT` makes it take an older
/// interface. Prints what is wrong, and then how often it was killed.
const KILLED: &str = r#"
    OPTIONS="$O,backend=kernel"
    mounted() { grep -c " $D/m " /proc/self/mounts; }
    fresh() { rm -rf u.work; ls -A u; }
    strace -f -qq -o all $INJECT bin/mount.overstore overlay "$D/m" -o "$OPTIONS" || exit 9
    grep -q "$PROOF" all || exit 10
    umount m; fresh
    sed 's/^[0-9]* *//; s/(.*//' all | grep -v '^[+-]\|^exit\|^execve' |
        awk '{ n[$1]++; print $1, n[$1] }' >calls
    killed=0
    while read -r call n; do
        case "$INJECT" in
            *inject=$call:*) continue ;;
        esac
        strace -f -qq -o log $INJECT -e "inject=$call:signal=KILL:when=$n" \
            bin/mount.overstore overlay "$D/m" -o "$OPTIONS" 2>/dev/null
        [ $? = 137 ] && killed=$((killed + 1)) || echo "$call $n: not killed"
        before=$(mounted)
        bin/mount.overstore overlay "$D/m" -o "$OPTIONS" 2>err; code=$?
        case "$before,$code" in
            0,0) ;;
            1,32) grep -q 'a merged view (kernel) is mounted there already' err || cat err ;;
            *) echo "$call $n: $before mounted, then $code: $(cat err)" ;;
        esac
        [ "$(cat m/low)" = 'from the lower' ] || echo "$call $n: no view"
        mkdir m/d && mv m/d m/e && rmdir m/e || echo "$call $n: not writable"
        [ "$(mounted)" = 1 ] || echo "$call $n: $(mounted) mounts"
        umount m
        fresh
    done <calls
    [ "$killed" -gt 30 ] && echo killed
"#;

/// Runs [`KILLED`] with strace's `inject`, of which `proof` must be seen in the log.
fn killed(flags: &str, inject: &str, proof: &str) {
    let place = Place::new();
    if !can(&place, flags) || (flags == "-m" && !needs_root()) {
        return;
    }
    let script = format!("INJECT='{inject}'; PROOF='{proof}'; {KILLED}");
    said(&in_namespace(&place, flags, &script), "killed\n");
}

#[test]
fn killed_at_every_call_as_root() {
    killed("-m", "", "move_mount");
}

#[test]
fn killed_at_every_call_in_a_user_namespace() {
    killed("-Urm", "", "move_mount");
}

#[test]
fn killed_at_every_call_on_an_older_kernel() {
    let older = "-e inject=fsopen:error=ENOSYS";
    killed("-m", older, "^[0-9]* *mount(.*= 0");
}

#[test]
fn run_twice() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        mount() { bin/mount.overstore overlay "$@" 2>&1; echo $?; }
        mkdir m2
        mount "$D/m" -o "$O,backend=kernel"
        mount "$D/m" -o "$O,backend=kernel" | sed "s|$D|D|g"
        mount "$D/m2" -o "$O,backend=kernel" | sed "s|$D|D|g"
        mount "$D/m" -fo "$O,backend=kernel" | tail -1
        umount m
        mount "$D/m" -fo "$O,backend=kernel"; mount "$D/m" -fo "$O,backend=kernel"
        mount "$D/m" -o "$O,backend=kernel"
    "#;
    let expected = "0\n\
        mount.overstore: error: mountpoint D/m: a merged view (kernel) is mounted there already; \
        refresh it with `-o remount`, or unmount it first\n32\n\
        mount.overstore: error: upper directory D/u: in use by the view at D/m; \
        two views of one upper damage it; bind-mount the first one\n32\n\
        32\n0\n0\n0\n";
    said(&in_namespace(&place, "-m", script), expected);
}

/// A bind mount of a parent gives the upper another path.
#[test]
fn run_twice_by_other_names() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        mkdir -p p/u again m2 w; mount --bind p again
        mount() { bin/mount.overstore overlay "$1" -o "lowerdir=$D/l,upperdir=$2,backend=kernel" 2>&1; echo $?; }
        mount "$D/m" "$D/p/u"
        mount "$D/m2" "$D/again/u" | sed "s|$D|D|g"
        umount m
        mount "$D/m2" "$D/again/u"
        mount "$D/m" "$D/p/u" | sed "s|$D|D|g"
    "#;
    let refused = |upper: &str, at: &str| {
        format!(
            "0\nmount.overstore: error: upper directory D/{upper}: in use by the view at D/{at}; \
             two views of one upper damage it; bind-mount the first one\n32\n"
        )
    };
    let expected = [refused("again/u", "m"), refused("p/u", "m2")].concat();
    said(&in_namespace(&place, "-m", script), &expected);
}

#[test]
fn run_by_several_at_once() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        for round in 1 2 3 4 5 6 7 8 9 10; do
            rm -rf u.work
            for one in 1 2 3 4 5 6; do
                (bin/mount.overstore overlay "$D/m" -o "$O,backend=kernel" 2>err.$one; echo $? >code.$one) &
            done
            wait
            echo $(sort code.* | uniq -c) $(grep -c " $D/m " /proc/self/mounts) \
                $(cat err.* | grep -c 'is mounted there already\|in use by the view at')
            mkdir m/d && mv m/d m/e && rmdir m/e; umount m
        done
    "#;
    let output = in_namespace(&place, "-m", script);
    let lines = text(&output.stdout);
    for line in lines.lines() {
        assert_eq!(line, "1 0 5 32 1 5", "{lines}{}", text(&output.stderr));
    }
    assert_eq!(lines.lines().count(), 10, "{}", text(&output.stderr));
}

/// Anybody who may read the work directory can lock it, and must not keep the view away. No thread
/// is started to wait.
#[test]
fn somebody_holds_the_work_directory() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        mkdir u.work
        exec 9<u.work; flock 9
        strace -f -qq -o log -e trace=clone,clone3,fork,vfork \
            bin/mount.overstore overlay "$D/m" -o "$O,backend=kernel" 9<&- 2>err; echo $?
        sed "s|$D|D|g" err; cat log m/low
    "#;
    let expected = "0\n\
        mount.overstore: warning: work directory D/u.work: cannot be locked, or somebody held it \
        locked for 5 seconds; going on without: nothing else may mount with it now\n\
        from the lower\n";
    said(&in_namespace(&place, "-m", script), expected);
}
