# SPDX-License-Identifier: MIT OR Apache-2.0
# scripts/stress-store for a short while.
. "${BASH_SOURCE[0]%/*}/common.sh" "$@"
prepare
add_both lower >$HOME/log
sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$HOME/log
mount_it
step "everybody at once"
UPPER=$upper STATE=$state MERGED=$merged SCRATCH=/mnt bash /run/scripts/stress-store ${SECONDS_OF_STRESS:-30}
overstore check "$url" || die "overstore finds fault"
overstore umount $merged
echo "done: stress $BACKEND $USER"
