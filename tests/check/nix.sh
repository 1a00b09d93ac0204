# SPDX-License-Identifier: MIT OR Apache-2.0
# Real Nix makes both stores: good ones are found good, and what the printed commands mend, Nix finds
# mended. Runs inside a root folder, with /mnt for scratch.
set -euEo pipefail
exec 2>&1
lower=/mnt/lower upper=/mnt/upper root=/mnt/m state=/mnt/state
url="local-overlay://?root=$root&lower-store=$lower&upper-layer=$upper&state=$state"
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf PATH=/run/bin:$PATH LC_ALL=C
mkdir -p $HOME $NIX_CONF_DIR $upper
printf '%s\n' 'experimental-features = local-overlay-store read-only-local-store' \
    'build-users-group =' 'sandbox = false' 'substituters =' >$NIX_CONF_DIR/nix.conf
now=start
step() { now=$*; echo "step: $*"; }
trap 'echo "FAILED in step \"$now\": line $LINENO: $BASH_COMMAND"' ERR
store() { nix-store --store "$url" "$@"; }
same() { [ "$1" = "$2" ] || { echo "expected \"$2\", got \"$1\""; false; }; }

# The kinds of the faults, in one line.
ids() {
    overstore check --json "$url" >/mnt/report || true
    sed -n '/"faults": \[/,/"layout"/p' /mnt/report | sed -n 's/^ *"id": "\(.*\)",$/\1/p' | xargs
}
# Every printed command, run as it is.
mend() {
    sed -n 's/^ *"mend": "\(.*\)",$/\1/p' /mnt/report >/mnt/mend
    cat /mnt/mend
    bash -e /mnt/mend
    same "$(ids)" ""
}
good() { overstore check "$url" >/mnt/text || { cat /mnt/text; false; }; same "$(ids)" ""; }

step "Nix makes a lower store with references"
drv=$(nix-instantiate --store $lower -E 'derivation {
    name = "tool"; system = "x86_64-linux"; builder = "/bin/sh";
    args = [ (builtins.toFile "lib" "text") ]; }')
drv=${drv%%!*}
lib=$(nix-store --store $lower --query --references "$drv")
echo other >/mnt/other
other=$(nix-store --store $lower --add /mnt/other)

step "a new layout: not mounted, without a database"
same "$(ids)" "database-missing not-mounted"
overstore mount "$url"
good

step "what Nix does leaves no fault"
store --check-validity "$drv"
echo new >/mnt/new
new=$(store --add /mnt/new)
good
store --verify --check-contents
store --gc --print-dead >/mnt/dead
good

step "references that are missing are registered again"
sqlite3 $state/db/db.sqlite 'DELETE FROM Refs'
same "$(ids)" closure
mend
same "$(store --query --references "$drv")" "$lib"

step "a reference to a row that is gone"
sqlite3 $state/db/db.sqlite "DELETE FROM ValidPaths WHERE path = '$lib'"
same "$(ids)" closure
mend
same "$(store --query --references "$drv")" "$lib"
same "$(sqlite3 $state/db/db.sqlite 'PRAGMA foreign_key_check')" ""

step "a row without files"
rm -f $upper/${new##*/}
same "$(ids)" row-without-files
mend
if store --check-validity "$new"; then false; fi

step "a row without files to which another refers"
holder=$(nix-instantiate --store "$url" -E 'derivation {
    name = "holder"; system = "x86_64-linux"; builder = "/bin/sh";
    args = [ (builtins.toFile "held" "text") ]; }')
holder=${holder%%!*}
held=$(store --query --references "$holder")
nix --extra-experimental-features nix-command copy --no-check-sigs --from "$url" --to file:///mnt/cache "$held"
rm -f $upper/${held##*/}
same "$(ids)" row-without-files
if store --verify; then false; fi
store --check-validity "$held"
printf '%s\n' 'substituters = file:///mnt/cache' 'require-sigs = false' >>$NIX_CONF_DIR/nix.conf
mend
store --verify-path "$held"
echo "step: and where nothing has it"
printf '%s\n' 'substituters =' >>$NIX_CONF_DIR/nix.conf
rm -f $upper/${held##*/}
same "$(ids)" row-without-files
store --delete $(store --query --referrers-closure "$held")
same "$(ids)" ""

step "a file that nobody registered hides a valid object"
sqlite3 $state/db/db.sqlite "DELETE FROM ValidPaths WHERE path = '$other'"
echo junk >$upper/${other##*/}
same "$(ids)" shadow
mend
store --check-validity "$other"
store --verify-path "$other"

step "a whiteout"
mknod $upper/${other##*/} c 0 0
same "$(ids)" whiteout
mend
store --verify-path "$other"

step "modes and times"
new=$(store --add /mnt/new)
chmod 644 $upper/${new##*/} && touch $upper/${new##*/}
same "$(ids)" wrong-modes
mend
store --verify-path "$new"

step "after a garbage collection"
store --gc
good
overstore umount $root/nix/store
