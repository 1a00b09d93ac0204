# SPDX-License-Identifier: MIT OR Apache-2.0
# A collection and an optimisation are killed at random moments; the store is sound after each.
. "${BASH_SOURCE[0]%/*}/common.sh" "$@"
prepare
mkdir $HOME/tree; for n in $(seq 40); do mkdir $HOME/tree/$n; echo $n >$HOME/tree/$n/file; done
chmod -R a-w $HOME/tree
base=$(below --add $HOME/tree)
for n in $(seq 6); do cp -a $HOME/tree $HOME/double-$n; chmod u+w $HOME/double-$n; echo $n >$HOME/double-$n/n; done
mapfile -t doubles < <(below --add $HOME/double-*)
sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$HOME/log
lower_manifest >$HOME/lower.manifest
mount_it
for n in $(seq 12); do cp -a $HOME/tree $HOME/up-$n; chmod u+w $HOME/up-$n; echo $n >$HOME/up-$n/n; done
kept=$(store --add $HOME/up-1); root_of "$kept"; root_of "${doubles[0]}"
killed=0 ended=0
for round in $(seq ${ROUNDS:-25}); do
    now="round $round"
    store --add $HOME/up-* >$HOME/log
    for path in "${doubles[@]}"; do
        copy_row "$path"
        [ -d $upper/${path##*/} ] || cp -a $lower_store/${path##*/} $upper/
    done
    overstore sync $merged
    command=gc; [ $((round % 3)) != 0 ] || command=optimise
    # Killed by its limit, somewhere within what a whole run takes.
    rc=0
    timeout --signal=KILL 0.0$((RANDOM % 90 + 5)) overstore $command >>$HOME/gc.log 2>&1 || rc=$?
    if [ $rc = 137 ]; then killed=$((killed + 1)); else same $rc 0 "exit code of $command"; ended=$((ended + 1)); fi
    for path in $(rows); do present $merged/${path##*/}; done
    for path in "${doubles[@]}" "$base"; do
        diff -r --no-dereference $lower_store/${path##*/} $merged/${path##*/} || die "$path of the lower is not whole"
    done
    diff -r $HOME/up-1 $merged/${kept##*/} || die "a rooted object was hurt"
done
step "killed $killed times, ended $ended times; in the end all is clean"
[ $killed -gt 0 ] || die "never killed: the machine is too fast"
clean
overstore gc >$HOME/log
same "$(ls -A $upper | grep -vx .links | sort)" "$(printf '%s\n' "${kept##*/}" "${doubles[0]##*/}" | sort)" "upper"
no_whiteouts
clean
overstore umount $merged
lower_manifest | cmp - $HOME/lower.manifest
echo "done: crash $BACKEND $USER"
