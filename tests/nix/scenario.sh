# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs one group of steps with real Nix in one mode, inside a root folder (see scripts/nix-enter).
# usage: scenario.sh GROUP MODE BACKEND
#   GROUP    the file of steps beside this one: objects, builds...
#   MODE     root | userns (root of a user namespace) | user (a plain user with fusermount3)
#   BACKEND  fuse | kernel (both mounted by overstore) | overlay (OverlayFS without it, the control)
# Everything lies in /mnt. As root this makes the lower store and hashes it before and after; the
# steps in between run in the mode that is asked for. A group whose lower store changes meanwhile
# asks for that by `below` (common.sh): its owner, a process of root, runs the command between two
# looks at the store, so that every change is one that was asked for.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
group=$1
export MODE=$2 BACKEND=$3
. "$here/common.sh"

make_lower() {
    mkdir -p $src/tools/bin $src/tree/empty "$src/tree/a dir" $lower $HOME $NIX_CONF_DIR
    cp /bin/busybox $src/tools/bin/
    for name in sh mkdir cat cp mv rm ln chmod sort cut printf ls; do
        ln -s busybox $src/tools/bin/$name
    done
    for name in "a dir/with space" $'caf\xc3\xa9' 'a dir/+plus'; do
        echo "$name" >"$src/tree/$name"
    done
    printf '#!/bin/sh\n' >$src/tree/run
    chmod +x $src/tree/run
    ln -s "a dir/with space" $src/tree/link
    ln -s /nowhere $src/tree/dangling
    head -c 41943040 /dev/urandom >$src/large
    for name in file doubled shared spare; do echo "$name" >$src/$name; done
    mkdir $src/twice && echo twice >$src/twice/f
    cat >$NIX_CONF_DIR/nix.conf <<-END
	experimental-features = nix-command local-overlay-store read-only-local-store
	build-users-group =
	sandbox = true
	sandbox-fallback = false
	substituters =
	require-sigs = false
	trusted-users = *
	fsync-metadata = false
	keep-derivations = false
	END
    # A user namespace with one user in it has no groups to drop.
    [ "$MODE" != userns ] ||
        echo "require-drop-supplementary-groups = false" >>$NIX_CONF_DIR/nix.conf
    # Part of the lower store is hard linked through its own .links, as users' stores are.
    nix-build --quiet --no-out-link --store "local?root=$lower" --option auto-optimise-store true \
        "$world" -A lower >/dev/null
    nix-store --store "local?root=$lower" --add $src/doubled $src/shared $src/twice >/dev/null
}

# What a collection of the lower store may not take: all that is there now.
root_lower() {
    local name
    for name in $(ls $lower_store); do
        ln -s "/nix/store/$name" "$lower/nix/var/nix/gcroots/$name"
    done
}

same_lower() {
    manifest >$private/now
    if ! cmp -s $private/lower $private/now; then
        diff $private/lower $private/now | head -n 40 || true
        die "the lower store changed by itself $1"
    fi
}

# The owner of the lower store: runs the commands that `below` hands over, one at a time.
keep_lower() {
    local line rc
    trap - ERR
    export HOME=/root
    # Both ends stay open, or one who asks again at once may meet the end of the last answer.
    exec 8<>$keeper/ask 9<>$keeper/answer
    while read -r -u 8 line; do
        [ "$line" != end ] || break
        # Whoever asked is told, since he waits.
        (same_lower "before: $line") || { echo 99 >&9; exit 1; }
        rc=0
        (eval "$line") >$keeper/out 2>$keeper/err </dev/null || rc=$?
        # Nix 2.34 may leave its last rows in the log, where a store that is opened with
        # read-only=true does not look.
        sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$private/log
        manifest >$private/lower
        echo $rc >&9
    done
    same_lower "in the end"
}

# The mount helper and its other name, where mount(8) and Nix find them.
install_helper() {
    ln -s mount.overstore /run/bin/overstore-refresh
    mkdir /run/sbin
    cp -a /usr/sbin/. /run/sbin/
    ln -s /run/bin/mount.overstore /run/bin/overstore /run/sbin/
    mount --bind /run/sbin /usr/sbin
}
[ ! -e /run/bin/mount.overstore ] || install_helper

case $MODE in
    root) as=() ;;
    userns) as=("${plain[@]}" unshare --user --map-root-user --mount) ;;
    user) as=("${plain[@]}") ;;
esac
# Whether this kernel mounts an overlay of what is in /mnt; tests/nix.rs knows the exit status.
try_overlay() {
    local why place=/mnt/try attr=userxattr
    [ "$MODE" != root ] || attr=index=off
    mkdir -p $place/{l,u,w,m}
    chown "$owner" $place/{u,w}
    if ! why=$("${as[@]}" unshare --mount mount -t overlay overlay $place/m \
        -o lowerdir=$place/l,upperdir=$place/u,workdir=$place/w,$attr 2>&1); then
        echo "no overlay in $MODE mode: ${why##*$'\n'}"
        exit 77
    fi
    rm -rf $place
}
if ! fuse_only; then try_overlay; fi

step "the lower store"
private=/root/scenario
mkdir $private $keeper
make_lower
root_lower
[ $group-$MODE != cross-userns ] || chown -Rh "$owner" $lower
manifest >$private/lower
objects() { grep -F " $lower_store/" "$1" | grep -vF " $lower_store/.links"; }
objects $private/lower >$private/start
mkfifo -m 0666 $keeper/ask $keeper/answer
keep_lower &
owner_of_lower=$!

mkdir -p "$root" $upper $work $state $merged $tmp
chown -R "$owner" "$root" $upper $work $state $tmp $HOME
rc=0
"${as[@]}" bash "$here/$group.sh" || rc=$?
if [ $rc != 0 ]; then
    if [ -s $tmp/driver.log ]; then echo "the driver's log:"; cat $tmp/driver.log; fi
    echo "left in the upper directory:"
    (cd $upper && find . -maxdepth 2 -printf '%y %m %n %u %s %p\n' | head -n 60)
    exit $rc
fi

step "the lower store is what it was, but for what its owner did"
echo end >$keeper/ask
wait $owner_of_lower
objects $private/now | sort >$private/end
same "$(sort $private/start | comm -23 - $private/end)" "" "changed or gone from the lower store"
if grep -E "Stale file handle|Transport endpoint" $tmp/*.log; then die "no such error is due"; fi
echo "done: $group $MODE $BACKEND"
