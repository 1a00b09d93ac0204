# SPDX-License-Identifier: MIT OR Apache-2.0
# One upper layer, mounted by the driver and by the kernel by turns, with Nix at work in between: what
# one shows before it is unmounted, the other shows once it is mounted, and Nix goes on there.
# Once the lower store is the user's own, so that he may repair on the kernel's OverlayFS too.
. "$(dirname "$(realpath "$0")")/common.sh"
. "$(dirname "$(realpath "$0")")/sound.sh"
url="$url&remount-hook=/run/bin/overstore-refresh"

# All that is shown but .links, which the driver does not merge: the sizes of directories and the
# link counts of files count, and which names are one file.
snapshot() {
    (
        cd "$merged"
        find . -path ./.links -prune -o -printf '%y %m %U:%G %T@ %n %s %p -> %l\n' | sort
        find . -path ./.links -prune -o -type f -print0 | sort -z | xargs -0r sha256sum
        find . -path ./.links -prune -o -type f -links +1 -printf '%i %p\n' | sort -k 2 |
            awk '{ name = substr($0, length($1) + 2)
                if (!($1 in first)) first[$1] = name
                print first[$1] " is " name }'
    )
}
change_over() {
    step "turn $turn: $BACKEND is unmounted, the other shows the same and verifies"
    snapshot >$tmp/before
    unmount_merged
    if fuse_only; then BACKEND=kernel; else BACKEND=fuse; fi
    mount_merged
    snapshot >$tmp/after
    diff $tmp/before $tmp/after >$tmp/diff.log || { head -n 40 $tmp/diff.log; die "differs"; }
    finds_none
}

# While nothing is mounted the lower store gains what the upper has, what is corrupt, and what no
# Nix knows: the rest of a build that was broken off, a link that nothing uses.
prepare() {
    step "turn $turn: the lower store changes while nothing is mounted"
    unmount_merged
    local path changes new
    [ ${#round[@]} = 0 ] || build_below $(round_of "$((turn - 1))") >/dev/null
    new=($(build_below -A soundFile -A soundDir --argstr n "cached-$turn")
        $(build_below -A soundFile -A soundDir --argstr n "built-$turn"))
    mkdir -p $good
    for path in "${new[@]}"; do
        cp -dR --preserve=mode,timestamps "$(in_lower "$path")" $good/
    done
    below nix copy --no-check-sigs --from "local?root=$lower" --to "file://$cache" \
        "${new[@]:0:2}" 2>$tmp/copy.log
    echo "unused $turn" >$tmp/unused
    changes="$(declare -f corrupt)
        cp $tmp/unused $lower_store/.links/$(nix-hash --type sha256 --base32 $tmp/unused)"
    for path in "${new[@]}"; do changes+="; corrupt $(in_lower "$path")"; done
    for path in "${left_over[@]}"; do
        changes+="; mkdir -p $(in_lower "$path")/left; echo left >$(in_lower "$path")/left/over"
    done
    [ "$MODE" = root ] || changes+="; chown -Rh nobody:nogroup $lower"
    below bash -euc "$changes"
    lower_ones+=("${new[@]}")
    case $turn in
        # Either way to mount by either backend.
        [12]) mount_merged ;;
        *) mount -t overstore overlay "$merged" \
            -o "lowerdir=$lower_store,upperdir=$upper,backend=$BACKEND" ;;
    esac
}

# What Nix does in one turn, whoever serves it.
work() {
    local path
    step "turn $turn: add, build and share ($BACKEND)"
    tree=$(store --add $src/tree)
    sealed "$tree"
    same "$(build -A app -A top.out -A fixed | wc -l)" 3 "number of outputs"
    for n in a b; do mkdir -p $tmp/equal-$turn/$n; echo "equal $turn" >$tmp/equal-$turn/$n/f; done
    keep "$(store --option auto-optimise-store true --add $tmp/equal-$turn)"

    step "turn $turn: duplicates are deleted and dropped ($BACKEND)"
    if [ ${#round[@]} != 0 ]; then
        for path in "${round[@]}"; do release "$path"; done
        store --delete "${round[3]}" "${round[2]}" "${round[0]}" >$tmp/delete.log 2>&1 ||
            { cat $tmp/delete.log; die "delete"; }
        store --check-validity "${round[1]}"
        store --optimise >$tmp/optimise.log 2>&1 || { cat $tmp/optimise.log; die "optimise"; }
        for path in "${round[@]}"; do
            absent "$(in_upper "$path")"
            diff -r --no-dereference "$(in_merged "$path")" "$(in_lower "$path")" || die "$path"
        done
        # Collecting what only the lower has, Nix 2.26 may end with "path ... is not valid", whoever
        # serves the view.
        keep "${round[@]}"
    fi
    readarray -t round < <(build $(round_of $turn))
    for path in "${round[@]}"; do sealed "$path"; done
    keep "${round[@]}"

    case $turn in
        2) several=($(build -A several)) && keep "${several[@]}" && left_over=("${several[@]:0:2}") ;;
        3) over_left_overs ;;
        4) over_whiteouts ;;
    esac

    step "turn $turn: repair, also what was repaired and dropped before ($BACKEND)"
    upper_ones=($(build $(sound File "upper-$turn")) $(build $(sound Dir "upper-$turn")))
    for path in "${upper_ones[@]}"; do
        cp -dR --preserve=mode,timestamps "$(in_merged "$path")" $good/
        corrupt "$(in_merged "$path")"
    done
    keep "${lower_ones[@]}" "${upper_ones[@]}"
    store --check-validity "${lower_ones[@]}"
    fails verify
    if fuse_only; then overstore repair on "$merged"; fi
    repair || { cat $tmp/verify.log; die "repair"; }
    if fuse_only; then overstore repair off "$merged"; fi
    is_sound "${lower_ones[@]}" "${upper_ones[@]}"

    step "turn $turn: collect what is not kept ($BACKEND)"
    store --delete "$tree" >/dev/null
    absent "$(in_merged "$tree")"
    gc
    is_sound "${lower_ones[@]}" "${upper_ones[@]}"
    for path in "${round[@]}"; do sealed "$path"; done
    finds_none
}

# What lies in the lower under the name of an object of the upper is hidden when that is removed.
over_left_overs() {
    step "turn $turn: a whiteout, and a directory that hides another ($BACKEND)"
    release "${several[0]}"
    release "${several[1]}"
    store --delete "${several[@]:0:2}" >$tmp/delete.log 2>&1 || { cat $tmp/delete.log; die "delete"; }
    same "$(build -A several | tail -n +2)" "$(printf '%s\n' "${several[@]:1}")"
    keep "${several[1]}"
    store --delete "${several[0]}"
    same "$(stat -c '%F %t %T' "$(in_upper "${several[0]}")")" "character special file 0 0" "whiteout"
    absent "$(in_merged "${several[0]}")"
    same "$(ls "$(in_merged "${several[1]}")")" 2 "names in the directory"
}
over_whiteouts() {
    step "turn $turn: build where the kernel left a whiteout ($BACKEND)"
    absent "$(in_merged "${several[0]}")"
    same "$(build -A several)" "$(printf '%s\n' "${several[@]}")"
    same "$(ls "$(in_merged "${several[0]}")")" 1 "names in the directory"
    keep "${several[0]}"
}

round=() left_over=() lower_ones=() turn=0
begin
for turn in 1 2 3 4; do
    prepare
    work
    change_over
done

step "collect all ($BACKEND)"
rm $state/gcroots/kept-*
gc
# What was left over in the lower went behind whiteouts.
gone() { printf '%s\n' .links "${left_over[@]##*/}"; }
same "$(ls -A "$merged" | grep -vxFf <(gone) | sort)" \
    "$(ls -A $lower_store | grep -vxFf <(gone) | sort)" "merged after gc"
unmount_merged
