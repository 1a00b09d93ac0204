# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs one group of steps with real Nix in one mode, inside a root folder (see scripts/nix-enter).
# usage: scenario.sh GROUP MODE BACKEND
#   GROUP    objects | builds | exchange | inside: the file of steps beside this one
#   MODE     root | userns (root of a user namespace) | user (a plain user with fusermount3)
#   BACKEND  fuse (overstore) | kernel (OverlayFS, the control)
# Everything lies in /mnt. As root this makes the lower store and hashes it before and after; the
# steps in between run in the mode that is asked for.
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

step "the lower store"
make_lower
before=$(manifest)

mkdir -p "$root" $upper $work $state $merged $tmp
chown -R "$owner" "$root" $upper $work $state $tmp $HOME
rc=0
case $MODE in
    root) as=() ;;
    userns) as=("${plain[@]}" unshare --user --map-root-user --mount) ;;
    user) as=("${plain[@]}") ;;
esac
"${as[@]}" bash "$here/$group.sh" || rc=$?
if [ $rc != 0 ]; then
    if [ -s $tmp/driver.log ]; then echo "the driver's log:"; cat $tmp/driver.log; fi
    echo "left in the upper directory:"
    (cd $upper && find . -maxdepth 2 -printf '%y %m %n %u %s %p\n' | head -n 60)
    exit $rc
fi

step "the lower store is what it was"
after=$(manifest)
if [ "$before" != "$after" ]; then
    diff <(echo "$before") <(echo "$after") | head -n 40 || true
    die "the lower store changed"
fi
echo "done: $group $MODE $BACKEND"
