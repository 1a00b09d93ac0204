# SPDX-License-Identifier: MIT OR Apache-2.0
# `nix-store --verify --check-contents --repair` of corrupted files and directories in both layers,
# with repair off and on, from a substituter and by building again, by Nix itself and by its daemon.
. "$(dirname "$(realpath "$0")")/common.sh"
. "$(dirname "$(realpath "$0")")/sound.sh"

# Four objects in the lower store, corrupt before anybody looks at them through the mount: finished
# objects are trusted. Two can be had from a binary cache, the others only by building them.
corrupt_lower() {
    step "objects of the lower store are corrupted ($1)"
    local path
    lower_ones=($(build_below $(sound File "cached-$1")) $(build_below $(sound Dir "cached-$1"))
        $(build_below $(sound File "built-$1")) $(build_below $(sound Dir "built-$1")))
    # Nobody but its owner may change the mode of a directory, which Nix does before it removes one.
    # In a user namespace the kernel's OverlayFS shows objects of root as nobody's, the driver as
    # the mount owner's.
    unrepaired+=("${denied[@]}") denied=()
    case $MODE-$BACKEND in
        user-* | userns-kernel | userns-overlay)
            [ -O $lower_store ] || denied=("${lower_ones[1]}" "${lower_ones[3]}") ;;
    esac
    mkdir -p $good
    for path in "${lower_ones[@]}"; do
        cp -dR --preserve=mode,timestamps "$(in_lower "$path")" $good/
    done
    owned nix copy --no-check-sigs --from "local?root=$lower" --to "file://$cache" \
        "${lower_ones[@]:0:2}"
    for path in "${lower_ones[@]}"; do
        owned bash -euc "$(declare -f corrupt); corrupt '$(in_lower "$path")'"
    done
    corrupted=$(tree $lower_store)
}
# Two of the upper, through the mount.
corrupt_upper() {
    upper_ones=($(build $(sound File "upper-$1")) $(build $(sound Dir "upper-$1")))
    for path in "${upper_ones[@]}"; do
        [ -e "$good/${path##*/}" ] || cp -dR --preserve=mode,timestamps "$(in_merged "$path")" $good/
        corrupt "$(in_merged "$path")"
    done
}

rows() {
    sqlite3 "$state/db/db.sqlite" "select 'path', * from ValidPaths; select 'reference', * from Refs;
        select 'output', * from DerivationOutputs" | sort
}
# Nix finds these modified, what could not be repaired before, and nothing else.
finds_wrong() {
    set -- "$@" "${unrepaired[@]}"
    [ $# -gt 0 ] || { finds_none; return; }
    fails verify
    same "$(sed -En 's/^path .([^ ]*). was modified!.*/\1/p' $tmp/verify.log | sort)" \
        "$(printf '%s\n' "$@" | sort)" "modified objects"
}
nothing_is_left() {
    if fuse_only; then
        same "$(overstore status --json "$merged" | grep -c '"hidden-count": 0')" 1 "hidden names"
    fi
    same "$(ls -A "$merged" $upper | grep -E '\.old-|\.repair|\.tmp|^tmp' || true)" "" "left by repair"
    no_whiteouts
}

# Nothing of the lower store is repaired, and nothing of it is lost.
with_repair_off() {
    local before rows_before
    step "corrupted objects are found ($1)"
    corrupt_upper "$1"
    store --check-validity "${lower_ones[@]}" "${upper_ones[@]}"
    finds_wrong "${lower_ones[@]}" "${upper_ones[@]}"

    step "with repair off the lower ones stay as they are, the upper ones are repaired ($1)"
    before=$(tree "$merged") rows_before=$(rows)
    fails repair
    grep -q 'Read-only file system' $tmp/verify.log || { cat $tmp/verify.log; die "no EROFS"; }
    is_sound "${upper_ones[@]}"
    is_wrong "${lower_ones[@]}"
    same "$(tree "$merged" | grep -v -- "-upper-$1")" "$(grep -v -- "-upper-$1" <<<"$before")" "the view"
    same "$(rows | comm -13 - <(echo "$rows_before"))" "" "rows that are lost"
    nothing_is_left
    finds_wrong "${lower_ones[@]}"
}

# What must be right now, and what is as wrong as it was.
is_repaired() {
    local path
    for path in "${lower_ones[@]}" "${upper_ones[@]}"; do
        case " ${denied[*]-} " in
            *" $path "*) is_wrong "$path" ;;
            *) is_sound "$path" ;;
        esac
    done
    finds_wrong "${denied[@]}"
}

with_repair_on() {
    local path
    step "with repair on everything is repaired that this user may remove ($1)"
    corrupt_upper "$1"
    store --check-validity "${lower_ones[@]}" "${upper_ones[@]}"
    finds_wrong "${lower_ones[@]}" "${upper_ones[@]}"
    if [ ${#denied[@]}${#unrepaired[@]} = 00 ]; then
        repair || { cat $tmp/verify.log; die "repair"; }
    else
        fails repair
        for path in "${denied[@]}"; do
            grep -q "${path##*/}.: Operation not permitted" $tmp/verify.log || die "no EPERM: $path"
        done
    fi
    is_repaired
    nothing_is_left
}

# Kind, mode, size, time and content; not the owner, and no size of directories.
comparable() { sed -E 's/^(d [0-7]+) [0-9]+ [0-9]+/\1/; s/^([fl] [0-7]+) [0-9]+/\1/' | sort; }
as_the_kernel() {
    local attr=userxattr enter=(bash)
    [ "$MODE" != root ] || attr=index=off
    [ "$MODE" != user ] || enter=(unshare --user --map-root-user --mount bash)
    mkdir -p $tmp/kernel
    "${enter[@]}" -euc "$(declare -f tree)
        mount -t overlay overlay $tmp/kernel \
            -o lowerdir=$lower_store,upperdir=$upper,workdir=$work,$attr
        tree $tmp/kernel
        umount $tmp/kernel"
}

# What was repaired rests on nothing that the driver remembers.
it_lasts() {
    step "it lasts without repair, and after a new mount ($1)"
    switch off
    is_repaired
    end_daemon
    url=$direct_url
    unmount_merged
    mount_merged
    is_repaired
    step "the kernel's OverlayFS shows the same ($1)"
    tree "$merged" | comparable >$tmp/ours
    unmount_merged
    as_the_kernel | comparable >$tmp/kernels
    diff $tmp/ours $tmp/kernels || die "the kernel shows something else"
    same "$(tree $lower_store)" "$corrupted" "the corrupted lower store"
}

# The kernel's OverlayFS always lets lower objects be removed.
switch() { if fuse_only; then overstore repair "$1" "$merged"; fi; }

scenario() {
    unrepaired=() denied=()
    corrupt_lower direct
    begin
    start_daemon
    direct_url=$url
    if fuse_only; then with_repair_off direct; fi
    switch on
    with_repair_on direct
    step "the daemon sees it"
    url=$daemon_url
    is_repaired
    it_lasts direct

    corrupt_lower daemon
    step "mount with repair on"
    if fuse_only; then mount_merged -o repair; else mount_merged; fi
    start_daemon
    url=$daemon_url
    switch off
    if fuse_only; then with_repair_off daemon; fi
    switch on
    with_repair_on daemon
    it_lasts daemon
}
scenario

if [ "$MODE" = user ]; then
    step "a plain user with a lower store of his own"
    owned() { "$@"; }
    good=$tmp/good-own cache=$tmp/cache-own
    lower=$tmp/lower upper=$tmp/upper work=$tmp/work state=$tmp/state root=$tmp/m
    merged=$root/nix/store lower_store=$lower/nix/store
    url="local-overlay://?root=$root&lower-store=$lower&upper-layer=$upper&state=$state"
    rm -rf $tmp/socket
    mkdir -p $upper $work $merged
    scenario
fi
