# SPDX-License-Identifier: MIT OR Apache-2.0
# Collectors and those who add, of both programs, one beside the other.
. "${BASH_SOURCE[0]%/*}/common.sh" "$@"
prepare
add_both lower >$HOME/log
sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$HOME/log
mount_it
store --init
# Waits until a condition holds; a test that hangs is ended from outside.
until_so() {
    local left=1000
    until "$@" 2>/dev/null; do
        [ $((left -= 1)) -gt 0 ] || die "still not so: $*"
        read -r -t 0.02 _ <>$HOME/never || true
    done
}
mkfifo $HOME/never

step "a process that lives keeps what it told"
echo told >$HOME/told; told=$(store --add $HOME/told)
# As Nix writes it: the path and a NUL, in a file that is locked.
mkdir -p $state/temproots
exec 7>$state/temproots/77777; flock 7; printf '%s\0' "$told" >&7
overstore gc >$HOME/log
present $merged/${told##*/}; has_row "$told"
rc=0; overstore delete --ignore-liveness "$told" 2>$HOME/err || rc=$?
same $rc 1 "delete of what a process keeps"
grep -q "a running process keeps it" $HOME/err
step "what it built beside it has the same hash part, and stays"
: >$merged/${told##*/}.lock; chmod 600 $merged/${told##*/}.lock
overstore gc >$HOME/log
present $merged/${told##*/}.lock
exec 7>&-
step "when it is gone its file is removed, and its objects go"
overstore gc >$HOME/log
absent $merged/${told##*/}; absent $merged/${told##*/}.lock; absent $state/temproots/77777

step "runtime roots: what a process uses stays"
echo used >$HOME/used; used=$(store --add $HOME/used)
USING=$used bash -c 'read -r _ <>'$HOME/never &
user=$!
until_so grep -qz "^USING=$used" /proc/$user/environ
overstore gc --print-roots | grep -qx "/proc/$user/environ -> $used"
overstore gc >$HOME/log
present $merged/${used##*/}
kill $user; wait $user || true
overstore gc >$HOME/log
absent $merged/${used##*/}

step "profiles, indirect and stale links"
echo a >$HOME/a; echo b >$HOME/b
a=$(store --add $HOME/a) b=$(store --add $HOME/b)
ln -s "$a" $state/profiles/mine
ln -s "$b" $HOME/link; mkdir -p $state/gcroots/auto; ln -s $HOME/link $state/gcroots/auto/x
ln -s $HOME/nowhere $state/gcroots/auto/stale
overstore gc --print-roots >$HOME/roots
grep -qx "$state/profiles/mine -> $a" $HOME/roots
grep -qx "$HOME/link -> $b" $HOME/roots
present $state/gcroots/auto/stale
store --gc --print-roots | grep -v censored | grep -F "$state" | sort -u >$HOME/their-roots
same "$(grep -F "$state/profiles/mine" $HOME/their-roots | sed 's/.*gcroots/gcroots/' | tail -c ${#a})" "${a#?}" "Nix's words for a root"
overstore gc >$HOME/log
present $merged/${a##*/}; present $merged/${b##*/}; absent $state/gcroots/auto/stale
rm $state/profiles/mine $HOME/link

step "the collector waits for who holds its lock, and can be interrupted"
exec 6>>$state/gc.lock; flock --shared 6
overstore gc >$HOME/waiting 2>&1 6>&- & waiting=$!
until_so grep -q "waiting to take" $HOME/waiting
present $merged/${a##*/}
kill -INT $waiting; rc=0; wait $waiting || rc=$?
same $rc 3 "exit code when interrupted"
overstore gc >$HOME/waiting 2>&1 6>&- & waiting=$!
until_so grep -q "waiting to take" $HOME/waiting
exec 6>&-
wait $waiting
absent $merged/${a##*/}

step "Nix adds while overstore is held in the middle of a collection"
# Nix's write transaction, as another process holds it: the collector has its lock, its server runs.
for n in $(seq 20); do echo dead $n >$HOME/dead-$n; done
mapfile -t dead < <(store --add $HOME/dead-*)
mkfifo $HOME/sql
sqlite3 $db <$HOME/sql >$HOME/sql.log & holder=$!
exec 5>$HOME/sql
echo "BEGIN IMMEDIATE; SELECT 'held';" >&5
until_so grep -q held $HOME/sql.log
overstore gc >$HOME/gc.log 2>&1 5>&- & collector=$!
until_so test -S $state/gc-socket/socket
until_so bash -c "! flock --nonblock --shared $state/gc.lock true"
# What is told now is kept, whatever was found before: one of the dead, asked for by its temporary root.
timeout 60 nix-store --store "$url" --add $HOME/dead-7 >$HOME/again 2>$HOME/err 5>&-
echo 'COMMIT;' >&5; exec 5>&-
wait $holder; wait $collector
wanted=$(cat $HOME/again)
present $merged/${wanted##*/}; has_row "$wanted"
clean

step "Nix collects and overstore too, in turns and at once"
for n in $(seq 5); do
    store --add $HOME/dead-* >$HOME/log
    overstore gc >$HOME/ours.log 2>&1 & ours=$!
    store --gc >$HOME/theirs.log 2>&1 & theirs=$!
    wait $ours; wait $theirs || grep -q "is not valid" $HOME/theirs.log
done
overstore gc >$HOME/log
same "$(ls -A $upper | grep -vx .links || true)" "" "upper"
clean

step "the ballast is there again for the next time"
store --init
present $state/db/reserved
overstore umount $merged
echo "done: protocol $BACKEND $USER"
