# SPDX-License-Identifier: MIT OR Apache-2.0
# Enters a test's mode: MODE SCRATCH TEST-BINARY PROGRAM TEST. Started by root it makes a private
# mount and process namespace first: when the test ends, every mount and driver of it is gone.
set -eu
mode=$1 scratch=$2 binary=$3 program=$4 test=$5

no() { echo "skipped: $1"; exit 0; }

# Becomes the test, started through the words given.
processes=
run() {
    export OVERSTORE_TEST_PROGRAM="$program"
    [ "$mode" != userns ] || set -- "$@" unshare -Urm --propagation private $processes
    exec "$@" "$binary" --exact "$test" --nocapture --test-threads=1
}

[ -c /dev/fuse ] || no "there is no /dev/fuse"
[ "$mode" != userns ] || unshare -Urm true || no "user namespaces are not allowed here"
[ "$mode" != user ] || command -v fusermount3 >/dev/null || no "there is no fusermount3"

if [ "$(id -u)" != 0 ]; then
    [ -w /dev/fuse ] || no "this user may not open /dev/fuse"
    [ "$mode" != user ] || id -un >/dev/null 2>&1 || no "this user has no name, which fusermount3 asks for"
    processes="--pid --fork --kill-child --mount-proc"
    run env
fi

if [ -z "${OVERSTORE_TEST_INSIDE:-}" ]; then
    export OVERSTORE_TEST_INSIDE=1
    unshare -m true || no "mount namespaces are not allowed here"
    exec unshare -m --propagation private --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi

# Root, inside: a device that every user may open, a user with a name (fusermount3 asks for it)
# and programs that can be reached wherever the source tree is.
mount -t tmpfs -o mode=0755 tmpfs "$scratch/dev"
cd "$scratch/dev"
mknod -m 0666 fuse c 10 229
mount --bind fuse /dev/fuse
{ cat /etc/passwd; echo "overstore-test:x:61234:61234::/:/bin/sh"; } >passwd
mount --bind passwd /etc/passwd
# The kernel's list of connections, as systemd mounts it.
mount -t fusectl fusectl /sys/fs/fuse/connections
touch test program
mount --bind "$binary" test
mount --bind "$program" program
binary=$scratch/dev/test program=$scratch/dev/program
cd "$scratch/work"
case $mode in
root) run env ;;
*) run setpriv --reuid=61234 --regid=61234 --clear-groups ;;
esac
