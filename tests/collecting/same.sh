# SPDX-License-Identifier: MIT OR Apache-2.0
# The same roots leave the same set: random stores, one copy collected by Nix, the other by overstore.
. "${BASH_SOURCE[0]%/*}/common.sh" "$@"
prepare
RANDOM=${SEED:-4711}
below --add "${BASH_SOURCE[0]}" >$HOME/log

pick() { local -n from=$1; echo "${from[RANDOM % ${#from[@]}]}"; }
some() { local count=$((RANDOM % 4)); while [ $((count--)) -gt 0 ]; do pick "$1"; done | sort -u; }

# 60 objects with random references, in both layers, some in both, and roots. The lower's are five
# groups that do not refer to each other; rows come up for a whole group or not at all: where an object
# has its row in the upper and one that refers to it has none, Nix ends with "is not valid" (2.26, and
# by chance), since it copies the second one's row up after it dropped the first one's.
world() {
    local n path drv out group group_of_this=()
    lowers=() all=() drvs=()
    for n in $(seq 0 14); do
        path=/nix/store/$(name_of "low-$1-$n")
        echo "low $1 $n" >$lower_store/${path##*/}
        [ $((n % 3)) != 0 ] || group_of_this=()
        set -- "$1"
        [ ${#group_of_this[@]} = 0 ] || set -- "$1" $(some group_of_this)
        merged=$lower_store db=$lower/nix/var/nix/db/db.sqlite register "$path" "${@:2}"
        lowers+=("$path") group_of_this+=("$path")
    done
    sqlite3 $lower/nix/var/nix/db/db.sqlite 'pragma wal_checkpoint(truncate)' >$HOME/log
    overstore sync $merged
    for group in 0 1 2; do
        for n in 0 1 2; do copy_row "${lowers[group * 3 + n]}"; done
    done
    mapfile -t all < <(rows)
    for n in $(seq 30); do
        path=/nix/store/$(name_of "up-$1-$n")
        echo "up $1 $n" >$merged/${path##*/}
        register "$path" $(some all)
        all+=("$path")
    done
    for n in $(seq 10); do
        drv=$(nix-instantiate --store "$url" -E "derivation { name = \"drv-$1-$n\"; builder = \"/bin/sh\";
            system = \"x86_64-linux\"; }" 2>>$HOME/log)
        drv=${drv%%!*}
        out=$(store --query --outputs "$drv")
        drvs+=("$drv") all+=("$drv")
        [ $((RANDOM % 4)) != 0 ] || continue
        echo "$out" >$merged/${out##*/}
        register "$out" --deriver "$drv" $(some all)
        all+=("$out")
    done
    for n in $(seq 5); do path=${lowers[RANDOM % 9]}; cp -a "$lower_store/${path##*/}" $upper/; done
    for n in 1 2 3; do echo junk >$upper/$(name_of "junk-$1-$n"); done
    for n in $(seq 4); do root_of "$(pick all)"; root_of "$(pick lowers)"; done
}

round=0
for flags in "false true" "true true" "false false" "true false"; do
    set -- $flags
    step "round $round: keep-outputs $1, keep-derivations $2"
    rm -rf $state/gcroots/root-*
    mount_it
    world $round
    overstore umount $merged
    rm -rf /mnt/twin; mkdir -p /mnt/twin/m/nix/store
    cp -a $upper $state /mnt/twin/
    twin="local-overlay://?root=/mnt/twin/m&lower-store=$lower?read-only=true&upper-layer=/mnt/twin/upper&state=/mnt/twin/state"
    mount_it; overstore mount --backend $BACKEND "$twin" 2>>$HOME/driver.log
    args=()
    [ "$1" = false ] || args+=(--keep-outputs)
    [ "$2" = true ] || args+=(--no-keep-derivations)
    overstore gc --print-dead "${args[@]}" | sort >$HOME/predicted
    ls -A $upper | grep -vx .links | sort >$HOME/before
    overstore gc "${args[@]}" >$HOME/gc.log
    nix-store --store "$twin" --gc --option keep-outputs $1 --option keep-derivations $2 \
        >$HOME/nix-gc.log 2>&1 || { tail -n 3 $HOME/nix-gc.log; die "Nix does not collect"; }
    ls -A $upper | grep -vx .links | sort >$HOME/ours
    ls -A /mnt/twin/upper | grep -vx .links | sort >$HOME/theirs
    same "$(comm -23 $HOME/ours $HOME/theirs)" "" "files that Nix deletes"
    same "$(comm -13 $HOME/ours $HOME/theirs)" "" "files that Nix keeps"
    [ $(wc -l <$HOME/ours) -lt $(wc -l <$HOME/before) ] || die "nothing was deleted"
    [ -s $HOME/ours ] || die "everything was deleted"
    rows >$HOME/our-rows
    sqlite3 /mnt/twin/state/db/db.sqlite 'SELECT path FROM ValidPaths ORDER BY path' >$HOME/their-rows
    same "$(comm -23 $HOME/our-rows $HOME/their-rows)" "" "rows that Nix dropped"
    # Nix copies the rows of rooted lower objects up, with what they refer to.
    for path in $(comm -13 $HOME/our-rows $HOME/their-rows); do
        present $lower_store/${path##*/}
    done
    same "$(comm -12 $HOME/predicted $HOME/our-rows)" "" "rows that were said to be dead"
    clean
    # Nothing of this round is left for the next, where its groups would have half their rows.
    rm -f $state/gcroots/root-*
    overstore gc >$HOME/gc.log
    same "$(find $upper -mindepth 1 -maxdepth 1 ! -name .links)" "" "upper without roots"
    same "$(rows)" "" "rows without roots"
    overstore umount $merged; overstore umount /mnt/twin/m/nix/store
    no_whiteouts
    round=$((round + 1))
done
echo "done: same $BACKEND $USER"
