# SPDX-License-Identifier: MIT OR Apache-2.0
# What every group of steps uses: one store with both layers, made by real Nix inside a root folder.
# usage of a group: GROUP.sh BACKEND USER
#   BACKEND  fuse | kernel
#   USER     root | user (a plain user, who mounts with fusermount3)
set -euEo pipefail
exec 2>&1
BACKEND=$1 USER=$2
lower=/mnt/lower upper=/mnt/upper root=/mnt/m state=/mnt/state
merged=$root/nix/store lower_store=$lower/nix/store db=$state/db/db.sqlite
url="local-overlay://?root=$root&lower-store=$lower?read-only=true&upper-layer=$upper&state=$state"
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf LC_ALL=C OVERSTORE_STORE=$url
now=start
step() { now=$*; echo "step: $*"; }
die() { echo "FAILED in step \"$now\": $*"; exit 1; }
trap 'echo "FAILED in step \"$now\": line $LINENO: $BASH_COMMAND"' ERR
same() { [ "$1" = "$2" ] || die "${3-}: expected \"$2\", got \"$1\""; }
present() { [ -e "$1" ] || [ -L "$1" ] || die "$1 should exist"; }
absent() { [ ! -e "$1" ] && [ ! -L "$1" ] || die "$1 should not exist"; }
store() { nix-store --store "$url" "$@"; }
below() { nix-store --store "local?root=$lower" "$@"; }
rows() { sqlite3 $db 'SELECT path FROM ValidPaths ORDER BY path'; }
has_row() { [ -n "$(sqlite3 $db "SELECT 1 FROM ValidPaths WHERE path = '$1'")" ] || die "$1 should have a row"; }
no_row() { [ -z "$(sqlite3 $db "SELECT 1 FROM ValidPaths WHERE path = '$1'")" ] || die "$1 should have no row"; }
add_both() { echo "$1" >$HOME/$1; below --add $HOME/$1; }
root_of() { ln -sfn "$1" "$state/gcroots/root-${1##*/}"; }
# The row of a lower object comes up with it, as Nix does it when it is asked whether it is valid.
copy_row() { store --check-validity "$1"; }
# A copy of a lower object in the upper, as an add that raced with the lower's own leaves it.
duplicate() { cp -a "$lower_store/${1##*/}" $upper/; overstore sync $merged; }
name_of() { echo "$(echo "$1" | sha256sum | tr -dc '0-9abcdf' | cut -c1-32)-$1"; }
# Registers a file or tree in the view, with its references; Nix 2.26 cannot, in a diverted store.
register() {
    local path=$1 at=$merged/${1##*/} deriver=NULL hash reference
    if [ "${2-}" = --deriver ]; then deriver="'$3'"; set -- "$1" "${@:4}"; fi
    chmod -R a-w "$at"
    find "$at" -exec touch -h -d @1 {} +
    hash=$(nix-hash --type sha256 --base16 "$at")
    {
        echo 'PRAGMA foreign_keys=1; BEGIN IMMEDIATE;'
        echo "INSERT INTO ValidPaths (path, hash, registrationTime, deriver, narSize)
            VALUES ('$path', 'sha256:$hash', 1, $deriver, $(nix-store --dump "$at" | wc -c));"
        for reference in "${@:2}"; do
            echo "INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b
                WHERE a.path = '$path' AND b.path = '$reference';"
        done
        echo 'COMMIT;'
    } | sqlite3 -cmd '.timeout 60000' $db
}
. /run/common/verified.sh
clean() { nix_finds_nothing "$url" || die "verify found fault"; }
no_whiteouts() { same "$(find $upper -type c)" "" "whiteouts"; }
lower_manifest() {
    find $lower_store -printf '%y %m %T@ %i %n %s %p -> %l\n' | sort
    find $lower_store -type f -print0 | sort -z | xargs -0 sha256sum
}
mount_it() {
    overstore mount --backend $BACKEND "$url" 2>>$HOME/driver.log
}
prepare() {
    mkdir -p $HOME $NIX_CONF_DIR $upper $merged $state
    printf '%s\n' 'experimental-features = nix-command local-overlay-store read-only-local-store' \
        'build-users-group =' 'sandbox = false' 'substituters =' 'require-sigs = false' \
        'fsync-metadata = false' >$NIX_CONF_DIR/nix.conf
}
