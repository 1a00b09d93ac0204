# SPDX-License-Identifier: MIT OR Apache-2.0
# Every state that an object can be in, what a collection, a deletion and optimise make of it.
. "${BASH_SOURCE[0]%/*}/common.sh" "$@"
prepare

step "the lower store"
only=$(add_both only) copied=$(add_both copied) double=$(add_both double) hidden=$(add_both hidden)
shadowed=$(add_both shadowed) rooted=$(add_both rooted) rooted_double=$(add_both rooted-double)
mkdir -p $HOME/tree/sub && echo deep >$HOME/tree/sub/file && double_tree=$(below --add $HOME/tree)
lower_garbage=$(name_of garbage)
echo garbage >$lower_store/$lower_garbage
sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$HOME/log
lower_manifest >$HOME/lower.manifest
mount_it

# Makes every dead state; the view is a live one.
states() {
    echo upper >$HOME/upper && upper_only=$(store --add $HOME/upper)
    mkdir -p $HOME/dir/a/b && echo x >$HOME/dir/a/b/x && upper_dir=$(store --add $HOME/dir)
    echo kept >$HOME/kept && kept=$(store --add $HOME/kept) && root_of "$kept"
    for path in "$copied" "$double" "$double_tree" "$hidden" "$rooted_double"; do copy_row "$path"; done
    root_of "$rooted" && root_of "$rooted_double"
    for path in "$double" "$double_tree" "$shadowed" "$rooted_double"; do duplicate "$path"; done
    lost=/nix/store/$(name_of lost)
    sqlite3 $db "INSERT INTO ValidPaths (path, hash, registrationTime, narSize)
        VALUES ('$lost', 'sha256:$(printf %064d 0)', 1, 1)"
    # Nix left these: an object without a row, a lock, a build, a temporary directory, half a link.
    junk=$(name_of junk)
    mkdir $merged/$junk && echo j >$merged/$junk/j && chmod 0555 $merged/$junk
    : >$merged/$junk.lock; chmod 0600 $merged/$junk.lock
    mkdir -p $merged/$junk.drv.chroot/root/nix/store
    mkdir $merged/tmp-1-1; echo t >$merged/tmp-1-1/x
    echo foreign >$merged/foreign
    echo half >$merged/.tmp-link-999999999-1
    if [ $USER = root ]; then mknod $upper/${hidden##*/} c 0 0; overstore sync $merged; fi
}

step "what is dead is told, and nothing is done"
states
ls -A $upper >$HOME/before; rows >$HOME/rows
overstore gc --print-dead >$HOME/dead
overstore gc --print-live >$HOME/live
overstore gc --dry-run >$HOME/dry
same "$(overstore gc --print-roots | grep -c "^$state/gcroots/root-.* -> /nix/store/")" 3 "roots"
ls -A $upper | cmp - $HOME/before; rows | cmp - $HOME/rows
for path in "$upper_only" "$upper_dir" "$copied" "$double" "$double_tree" "$shadowed" "$lost" \
    "/nix/store/$junk" "/nix/store/$junk.lock" /nix/store/tmp-1-1; do
    grep -qx "$path" $HOME/dead || die "$path is not told to be dead"
done
for path in "$kept" "$rooted" "$rooted_double"; do
    grep -qx "$path" $HOME/live || die "$path is not told to be alive"
    if grep -qx "$path" $HOME/dead; then die "$path is told to be dead"; fi
done
if grep -qx "$only" $HOME/dead; then die "the lower is listed"; fi
grep -q 'would be deleted' $HOME/dry

step "a lock that is held keeps its file, and a locked directory stays"
locked=$(name_of locked)
: >$merged/$locked.lock; chmod 0600 $merged/$locked.lock
mkdir $merged/tmp-2-2
exec 8<>$merged/$locked.lock 9<$merged/tmp-2-2
flock 8; flock 9
overstore gc --json >$HOME/gc.json
present $merged/$locked.lock
present $merged/tmp-2-2
exec 8>&- 9<&-

step "what was dead is gone, and the lower shows again"
same "$(rows)" "$(printf '%s\n' "$kept" "$rooted_double" | sort)" "rows"
same "$(ls -A $upper | grep -vx .links | sort)" \
    "$(printf '%s\n' "${kept##*/}" "${rooted_double##*/}" $locked.lock tmp-2-2 | sort)" "upper"
no_whiteouts
for path in "$only" "$copied" "$double" "$double_tree" "$hidden" "$shadowed" "$rooted" "$rooted_double"; do
    diff -r --no-dereference "$lower_store/${path##*/}" "$merged/${path##*/}" || die "$path is wrong"
    same "$(stat -c %i "$merged/${path##*/}")" "$(stat -c %i \
        "$([ "$path" = "$rooted_double" ] && echo $upper || echo $lower_store)/${path##*/}")" "inode of $path"
done
present $merged/$lower_garbage
absent $merged/$junk
same "$(cat "$merged/${double_tree##*/}/sub/file")" deep "the lower's file"
clean

step "the freed bytes are those that were there"
head -c 3000000 /dev/zero >$HOME/big && big=$(store --add $HOME/big)
overstore gc >$HOME/gc.log
same "$(cat $HOME/gc.log)" "3 store paths deleted, 2.86 MiB freed" "report"
same "$(overstore gc)" "0 store paths deleted, 0.00 MiB freed" "report of nothing"

step "a limit stops it"
for n in 1 2 3 4 5 6; do head -c 1048576 /dev/zero >$HOME/mib-$n; echo $n >>$HOME/mib-$n; store --add $HOME/mib-$n; done >$HOME/log
same "$(overstore gc --max-freed 0)" "0 store paths deleted, 0.00 MiB freed" "limit 0"
same "$(overstore gc --max-freed 2M)" "2 store paths deleted, 2.00 MiB freed" "limit 2M"
same "$(overstore gc --max-freed 100G)" "4 store paths deleted, 4.00 MiB freed" "no limit in effect"

step "single objects"
one=$(store --add $HOME/mib-1)
overstore delete "$one" >$HOME/log
absent $merged/${one##*/}
no_row "$one"
deny() { # CODE WORDS ARGS...
    local rc=0 code=$1 words=$2; shift 2
    overstore delete "$@" >$HOME/deny.log 2>&1 || rc=$?
    same $rc "$code" "exit code of delete $*"
    grep -q "$words" $HOME/deny.log || { cat $HOME/deny.log; die "it does not say: $words"; }
}
deny 1 "root-${kept##*/} is a root of it" "$kept"
has_row "$kept"
overstore delete --dry-run --ignore-liveness "$kept" >$HOME/log
deny 1 "belongs to the lower" "$only"
copy_row "$copied"
deny 1 "belongs to the lower" "$copied"
has_row "$copied"
deny 1 "no such object" "/nix/store/$(name_of nowhere)"
deny 2 "no 32 characters" /nix/store/x
referrer=/nix/store/$(name_of referrer)
echo r >$merged/${referrer##*/}; one=$(store --add $HOME/mib-1)
register "$referrer" "$one"
deny 1 "${referrer##*/} refers to it" "$one"
deny 1 "${referrer##*/} refers to it" --ignore-liveness "$one"
overstore delete "$one" "$referrer" >$HOME/log
absent $merged/${referrer##*/}
copy_row "$double" && duplicate "$double"
overstore delete "$double" >$HOME/log
same "$(stat -c %i "$merged/${double##*/}")" "$(stat -c %i "$lower_store/${double##*/}")" "inode"
ln -s "$kept" $HOME/result
deny 1 "still alive" $HOME/result

step "optimise drops what the lower has, and links what is equal"
for path in "$double" "$double_tree"; do copy_row "$path"; duplicate "$path"; done
mkdir -p $HOME/eq/sub && for f in one sub/two; do echo equal >$HOME/eq/$f; done
: >$HOME/eq/empty; : >$HOME/eq/sub/empty
echo equal >$HOME/eq/program; chmod +x $HOME/eq/program
eq=$(store --add $HOME/eq)
echo other >$HOME/other; copy_row "$hidden"; cp $HOME/other $upper/${hidden##*/}; overstore sync $merged
hash=$(sha256sum <$HOME/other | cut -c1-64)
sqlite3 $db "UPDATE ValidPaths SET hash = 'sha256:$hash' WHERE path = '$hidden'"
rc=0; overstore optimise --json >$HOME/optimise.json || rc=$?
same $rc 1 "exit code with a differing object"
grep -q '"linked-files": 2' $HOME/optimise.json || { cat $HOME/optimise.json; die "links"; }
present $upper/${hidden##*/}
absent $upper/${double##*/}
has_row "$double"
same "$(stat -c %i "$merged/${double_tree##*/}")" "$(stat -c %i "$lower_store/${double_tree##*/}")" "inode"
same "$(stat -c '%h %a' $merged/${eq##*/}/one)" "3 444" "links and mode"
same "$(stat -c '%h %a' $merged/${eq##*/}/program)" "2 555" "links of the program"
same "$(stat -c '%a %Y' $merged/${eq##*/} $merged/${eq##*/}/sub | sort -u)" "555 1" "directories"
same "$(ls $upper/.links/*-* 2>/dev/null || true)" "" "names in .links"
same "$(ls -A $upper | grep tmp-link || true)" "" "half links"
overstore delete "$hidden" >$HOME/log
clean
step "Nix finds every link, and makes none more"
ls -i $upper/.links | sort >$HOME/links
nix-store --store "local?root=/mnt/plain" --option auto-optimise-store true --add $HOME/eq >$HOME/log
same "$(ls /mnt/plain/nix/store/.links | sort | comm -23 - <(awk '{print $2}' $HOME/links | sort))" "" "other links"
overstore delete --ignore-liveness "$kept" >$HOME/log
rm $state/gcroots/root-${kept##*/}
overstore gc --json >$HOME/gc.json
same "$(ls -A $upper/.links)" "" "links that nothing has"
no_whiteouts
clean

step "the lower is what it was"
overstore umount $merged
lower_manifest | cmp - $HOME/lower.manifest
echo "done: matrix $BACKEND $USER"
