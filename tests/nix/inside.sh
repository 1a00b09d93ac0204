# SPDX-License-Identifier: MIT OR Apache-2.0
# Nix inside `overstore run`: the store stands at /nix/store on a machine that has no /nix.
. "$(dirname "$(realpath "$0")")/common.sh"
url="local-overlay://?lower-store=$lower_url&upper-layer=$upper&state=$state&log=$tmp/log"
merged=/nix/store

if [ "${1-}" != inside ]; then
    step "overstore run ($MODE)"
    absent /nix
    overstore run "$url" -- bash "$0" inside 2>>$tmp/driver.log
    step "nothing is left behind"
    absent /nix
    same "$(grep -c ' /nix' /proc/self/mounts || true)" 0 "mounts at /nix"
    soon no_driver
    step "the exit status is the command's own"
    rc=0
    overstore run "$url" -- sh -c 'exit 42' || rc=$?
    same $rc 42 "exit status"
    exit 0
fi

step "Nix opens the store with its own check of the mount"
nix store info --store "$url"

step "add a tree"
tree=$(store --add $src/tree)
diff -r --no-dereference $src/tree "$tree" || die "the tree differs"
sealed "$tree"

step "build, and run the result from where it was built to be"
readarray -t built < <(build -A app -A top.out)
same "$("${built[0]}/bin/app" at home)" "lower says app at home"
sealed "${built[0]}"
sealed "${built[1]}"
same "$(NIX_REMOTE=$url nix run --impure -f "$world" app -- again)" "lower says app again"

step "a running program is a root"
# Nix sees what runs by its path, which is the logical one here.
fifo=$tmp/fifo
mkfifo $fifo
cat $fifo | "${tree%/*}/$(basename "$(lower_path tools)")/bin/sh" -c "cd ${built[0]} && cat" &
sleeper=$!
exec 9>$fifo
inside_app() { [ "$(readlink /proc/$sleeper/cwd)" = "${built[0]}" ]; }
soon inside_app
fails store --delete "${built[0]}"
exec 9>&-
wait $sleeper

step "verify the contents"
finds_none

collect
