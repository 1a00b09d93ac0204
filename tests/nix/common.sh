# SPDX-License-Identifier: MIT OR Apache-2.0
# What every group of steps uses: the places, the mount, and checks that say what they expected.
set -euEo pipefail
# In one stream, so that what fails stands below its step.
exec 3>&1 2>&1

src=/mnt/src lower=/mnt/lower upper=/mnt/upper work=/mnt/upper.work state=/mnt/state root=/mnt/m
tmp=/mnt/tmp
merged=$root/nix/store
lower_store=$lower/nix/store
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf NIX_SHOW_STATS=0
# Once the lower store as its owner opens it, otherwise as one who may only read it.
lower_url=$lower
[ "$MODE" = root ] || lower_url=$lower?read-only=true
url="local-overlay://?root=$root&lower-store=$lower_url&upper-layer=$upper&state=$state"
plain=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
owner=nobody:nogroup
[ "$MODE" = root ] || [ "$MODE" = userns ] || [ "$MODE" = user ] || exit 2
[ "$MODE" = root ] && owner=root:root

now="before the first step"
step() { now=$*; echo "step: $*"; }
die() { echo "FAILED in step \"$now\": $*" >&3; exit 1; }
trap 'echo "FAILED in step \"$now\": line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND" >&3' ERR

# Every name below the lower store with all that may never change, then every file's content.
manifest() {
    local what=$lower
    [ "$MODE" = root ] && what=$lower_store
    find $what -printf '%y %m %U:%G %T@ %i %n %s %p -> %l\n' | sort
    find $what -type f -print0 | sort -z | xargs -0 sha256sum
}

same() { [ "$1" = "$2" ] || die "${3-}: expected \"$2\", got \"$1\""; }
file_same() { cmp "$1" "$2" || die "$1 differs from $2"; }
# Processes end and start in their own time.
soon() {
    for _ in $(seq 60); do
        if "$@" 2>/dev/null; then return 0; fi
        sleep 0.05
    done
    "$@" || die "still not so after 3 seconds: $*"
}
absent() { [ ! -e "$1" ] && [ ! -L "$1" ] || die "$1 should not exist"; }
present() { [ -e "$1" ] || [ -L "$1" ] || die "$1 should exist"; }
fails() {
    if "$@" >$tmp/fails.log 2>&1; then cat $tmp/fails.log; die "should fail: $*"; fi
}
fuse_only() { [ "$BACKEND" = fuse ]; }

# Where a logical store path really is.
in_merged() { echo "$merged/${1#/nix/store/}"; }
in_upper() { echo "$upper/${1#/nix/store/}"; }
in_lower() { echo "$lower_store/${1#/nix/store/}"; }

store() { nix-store --store "$url" "$@"; }
# Collects. Nix 2.26 remembers that an object was valid after it has deleted its row, and stops with
# "path ... is not valid" when it then copies the row of something in the lower that refers to it:
# on OverlayFS too, and depending on the order of names. The next process has forgotten that.
gc() {
    local left=5 path
    until store --gc >$tmp/gc.log 2>&1; do
        path=$(sed -n "s/^error: path '\(.*\)' is not valid$/\1/p" $tmp/gc.log)
        case $(nix --version) in *" 2.26."*) ;; *) path= ;; esac
        [ "$path" ] && [ $((left -= 1)) -gt 0 ] || { cat $tmp/gc.log; die "gc"; }
        present "$(in_lower "$path")"
    done
}
keep() {
    local path
    for path in "$@"; do ln -sfn "$path" "$state/gcroots/kept-${path##*/}"; done
}
release() { rm "$state/gcroots/kept-${1##*/}"; }
start_daemon() {
    export NIX_DAEMON_SOCKET_PATH=$tmp/socket
    nix-daemon --store "$url" >$tmp/daemon.log 2>&1 &
    daemon=$!
    trap 'kill $daemon 2>/dev/null || true; cat $tmp/daemon.log' EXIT
    daemon_url="unix://$tmp/socket?root=$root&state=$state"
    soon nix store info --store "$daemon_url" >$tmp/info.log
}
end_daemon() {
    kill $daemon
    wait $daemon || true
    trap - EXIT
}

# Has the lower store's owner run a command; scenario.sh has the other end.
keeper=/mnt/keeper
below() {
    local line rc
    printf -v line '%q ' "$@"
    echo "$line" >$keeper/ask
    read -r rc <$keeper/answer
    cat $keeper/out
    cat $keeper/err >&2
    return "$rc"
}

world=$(dirname "${BASH_SOURCE[0]}")/world.nix
build() { nix-build --quiet --store "$url" --no-out-link "$world" "$@"; }
# Builds the four outputs of one round: a directory, a file, a tree of symlinks, a symlink.
round_of() { echo -A round --argstr n "$1"; }
# The lower store's owner is somebody else, unless a group says otherwise.
owned() { below "$@"; }
build_below() {
    owned nix-build --quiet --store "local?root=$lower" --no-out-link "$world" "$@"
}
lower_path() { echo /nix/store/$(basename "$(echo $lower_store/*-"$1")"); }

# Verifies, and requires that nothing is wrong.
. /run/common/verified.sh
finds_none() { nix_finds_nothing "${1-$url}" || die "verify found fault"; }
# Canonical as Nix leaves it, and seen with the same identity through the mount.
sealed() {
    local m u
    m=$(in_merged "$1") u=$(in_upper "$1")
    present "$u"
    same "$(stat -c %Y "$m")" 1 "mtime of $m"
    [ -L "$m" ] || case $(stat -c %a "$m") in 444 | 555) ;; *) die "mode of $m" ;; esac
    same "$(cd "$merged" && find "${m##*/}" -printf '%i %y %m %n %s %T@ %p %l\n' | sort)" \
        "$(cd $upper && find "${u##*/}" -printf '%i %y %m %n %s %T@ %p %l\n' | sort)" \
        "merged and upper view of ${m##*/}"
    diff -r --no-dereference "$m" "$u" || die "content of $m"
}

# With options of `overstore mount`, if any.
mount_merged() {
    case $BACKEND-$MODE in
        fuse-*) overstore mount "$@" "$url" 2>>$tmp/driver.log ;;
        kernel-*) overstore mount --backend kernel "$@" "$url" ;;
        overlay-root) mount -t overlay overlay \
            -o "lowerdir=$lower_store,upperdir=$upper,workdir=$work" "$merged" ;;
        overlay-userns) mount -t overlay overlay \
            -o "lowerdir=$lower_store,upperdir=$upper,workdir=$work,userxattr" "$merged" ;;
    esac
    same "$(findmnt -no SOURCE "$merged")" overlay "source of the mount"
}

# The kernel's overlay shows what was removed underneath only after a remount; the driver at once,
# which the barrier makes exact.
refresh() {
    case $BACKEND in
        fuse) overstore sync "$merged" ;;
        kernel) overstore-refresh "$merged" ;;
        overlay) LIBMOUNT_FORCE_MOUNT2=always mount -o remount "$merged" ;;
    esac
}

unmount_merged() {
    if [ "$BACKEND" = overlay ]; then umount "$merged"; else overstore umount "$merged"; fi
    if findmnt "$merged" >/dev/null; then die "still mounted: $merged"; fi
    if fuse_only; then soon no_driver; fi
}

no_driver() { ! pidof overstore; }

no_whiteouts() {
    same "$(find $upper -type c)" "" "whiteouts in the upper directory"
    same "$(find "$merged" -mindepth 1 -maxdepth 1 -type c)" "" "devices in the merged view"
}

collect() {
    step "gc leaves the upper directory empty"
    rm -f $tmp/result*
    gc
    if ! fuse_only; then return 0; fi
    no_whiteouts
    same "$(ls -A $upper | grep -vx .links || true)" "" "left in the upper directory"
    same "$(ls -A $upper/.links)" "" "left in .links"
    same "$(ls -A "$merged" | grep -vx .links | sort)" \
        "$(ls -A $lower_store | grep -vx .links | sort)" "merged after gc"
}

begin() {
    step "mount ($BACKEND, $MODE)"
    mount_merged
    step "Nix opens the store with its own check of the mount"
    nix store info --store "$url"
}
