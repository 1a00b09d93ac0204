# SPDX-License-Identifier: MIT OR Apache-2.0
# Real Nix makes a store, it is damaged, and both are asked: they tell the same paths; and what was
# mended here, Nix finds good. Runs inside a root folder, with /mnt for scratch, and $BACKEND.
set -euEo pipefail
exec 2>&1
lower=/mnt/lower upper=/mnt/upper root=/mnt/m state=/mnt/state good=/mnt/good
url="local-overlay://?root=$root&lower-store=$lower&upper-layer=$upper&state=$state"
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf PATH=/run/bin:$PATH LC_ALL=C
mkdir -p $HOME $NIX_CONF_DIR $upper
printf '%s\n' 'experimental-features = local-overlay-store nix-command' \
    'build-users-group =' 'sandbox = false' 'substituters =' 'require-sigs = false' >$NIX_CONF_DIR/nix.conf
now=start
step() { now=$*; echo "step: $*"; }
trap 'echo "FAILED in step \"$now\": line $LINENO: $BASH_COMMAND"; cat /mnt/out /mnt/nix /mnt/own 2>/dev/null || true' ERR
trap 'kill ${daemon-} 2>/dev/null || true' EXIT
same() { [ "$1" = "$2" ] || { echo "expected \"$2\", got \"$1\""; false; }; }
mount_it() { overstore mount --backend "$BACKEND" "$url"; }
# What is in memory of files that were changed underneath is forgotten.
again() { overstore umount $root/nix/store; mount_it; }
own() { overstore verify --store "$url" "$@" >/mnt/out 2>&1; }
nix_verify() { nix-store --store "$url" --verify --check-contents "$@"; }
# The store paths that a verification tells of, in one line.
told() { { grep -E 'modified|disappeared' "$1" || true; } | { grep -oE "/nix/store/[0-9a-z]{32}-[a-z0-9.-]*" || true; } | sort -u | xargs; }
damage() { chmod -R u+w "$1"; }

# Both are asked about copies of the same state of the database, since both remove rows.
compare() {
    again
    cp -a $state/db /mnt/db.before
    code=0; nix_verify >/mnt/nix 2>&1 || code=$?
    rm -r $state/db; cp -a /mnt/db.before $state/db
    own=0; overstore verify --store "$url" --check-contents >/mnt/own 2>&1 || own=$?
    same "$(told /mnt/own)" "$(told /mnt/nix)"
    same "$own" "$code"
    rm -r $state/db; mv /mnt/db.before $state/db
    [ "$(told /mnt/nix)" ] || { echo "nobody tells anything"; false; }
}
clean() {
    own --check-contents || { cat /mnt/out; false; }
    again
    nix_verify >/mnt/nix 2>&1 || { cat /mnt/nix; false; }
    same "$(told /mnt/nix)" ""
}

step "two stores by Nix"
for what in one two three four five; do mkdir -p /mnt/src/$what; echo $what >/mnt/src/$what/file; ln -sfn file /mnt/src/$what/link; done
printf '#!/bin/sh\n' >/mnt/src/one/run; chmod +x /mnt/src/one/run
low=$(nix-store --store $lower --add /mnt/src/one)
low2=$(nix-store --store $lower --add /mnt/src/two)
mount_it
nix-store --store "$url" --check-validity "$low" "$low2"
up=$(nix-store --store "$url" --add /mnt/src/three)
gone=$(nix-store --store "$url" --add /mnt/src/four)
dup=$(nix-store --store "$url" --add /mnt/src/five)
drv=$(nix-instantiate --store "$url" -E 'derivation { name = "holder"; system = "x86_64-linux";
    builder = "/bin/sh"; args = [ (builtins.toFile "held" "text") ]; }'); drv=${drv%%!*}
held=$(nix-store --store "$url" --query --references "$drv")
all="$low $low2 $up $gone $dup $drv $held"
nix copy --from "$url" --to "$good" $all
nix copy --from "$url" --to "file:///mnt/cache" $all
nix copy --from "$url" --to "file:///mnt/plain?compression=none" $all
nix copy --from "$url" --to "$lower" "$dup"
clean

in_upper() { echo $upper/${1##*/}; }
step "the same paths are told"
damage "$(in_upper "$up")"; echo changed >"$(in_upper "$up")/file"
compare
truncate -s 1 "$(in_upper "$up")/file"
compare
rm -r "$(in_upper "$up")/file"
compare
damage $lower/nix/store/${low##*/}; chmod a-x $lower/nix/store/${low##*/}/run
compare
damage "$(in_upper "$dup")"; echo x >"$(in_upper "$dup")/more"
compare
rm -f "$(in_upper "$held")"
compare
rm -rf "$(in_upper "$gone")"
compare

step "mended from a store, and Nix finds nothing"
again
if own --check-contents --repair --dry-run; then false; fi
own --check-contents --repair --from $good
clean
nix-store --store "$url" --check-validity $all

step "mended from a daemon"
export NIX_DAEMON_SOCKET_PATH=/mnt/socket
nix-daemon --store $good >/mnt/daemon.log 2>&1 &
daemon=$!
timeout 10 bash -c 'until [ -S /mnt/socket ]; do sleep 0.05; done'
damage "$(in_upper "$up")"; echo changed >"$(in_upper "$up")/file"; again
own --check-contents --repair --from unix:///mnt/socket
clean

for cache in cache plain; do
    step "mended from a binary cache: $cache"
    rm -f "$(in_upper "$held")"
    damage "$(in_upper "$up")"; truncate -s 0 "$(in_upper "$up")/file"; again
    own --check-contents --repair --from file:///mnt/$cache
    clean
done
overstore umount $root/nix/store
