# SPDX-License-Identifier: MIT OR Apache-2.0
# Both layers change underneath the mount, by Nix: the lower store is built in and collected by its
# owner, and duplicates are deleted straight from the upper. Nobody remounts, no hook, no barrier.
. "$(dirname "$(realpath "$0")")/common.sh"

below_store() { below nix-store --store "local?root=$lower" "$@"; }

# What is seen of some objects: all but the link count and size of directories, which merged ones
# do not have, and every content.
seen() {
    (
        cd "$1" && shift
        [ $# -gt 0 ] || exit 0
        find "$@" -type d -printf '%i %y %m %T@ %p\n' -o -printf '%i %y %m %n %s %T@ %p %l\n' | sort
        find "$@" -type f -print0 | sort -z | xargs -0r sha256sum
    )
}
names() { ls -A "$1" | grep -vx .links || true; }
merged_now() {
    names "$merged" | sort
    seen "$merged" $(names "$merged") | sort
}
# A name in the upper wins; here no directory has other names in it in one layer than in the other.
layers_now() {
    local only
    only=$(comm -13 <(names $upper | sort) <(names $lower_store | sort))
    { names $upper; names $lower_store; } | sort -u
    { seen $upper $(names $upper); seen $lower_store $only; } | sort
}
is_right() { [ "$(merged_now)" = "$(layers_now)" ]; }
# Milliseconds are promised; a busy machine gets more, but less than the second after which the
# driver has the kernel look once more.
promptly() {
    local limit=$((${EPOCHREALTIME/.} + 700000))
    until "$@" 2>/dev/null; do
        [ "${EPOCHREALTIME/.}" -lt $limit ] || return 1
        sleep 0.01
    done
}
right() {
    promptly is_right || {
        diff <(merged_now) <(layers_now) | head -n 20 || true
        die "the merged view is not what the layers are"
    }
}
shows_upper() { for path in "$@"; do present "$(in_upper "$path")"; done; right; }
shows_lower() {
    for path in "$@"; do
        absent "$(in_upper "$path")"
        present "$(in_lower "$path")"
    done
    right
}
is_gone() { [ ! -e "$1" ] && [ ! -L "$1" ]; }
is_valid() { nix-store --store "$1" --check-validity "$2" 2>$tmp/valid.log; }
# The barrier belongs to none of this: what is deleted shows by itself.
collect_merged() {
    gc
    same "$(names $upper)" "" "left in the upper directory"
}

begin
start_daemon
direct_url=$url

# Somebody who reads what stays: every error is a wrong answer.
tools=$(in_merged "$(lower_path tools)") base=$(in_merged "$(lower_path lower)")
walk() {
    while [ ! -e $tmp/enough ]; do
        cat "$tools/bin/busybox" "$base/share/deep/link" "$base"/*/one | cmp - $tmp/walked
        ls "$merged" >/dev/null
        sleep 0.05
    done
}
cat "$tools/bin/busybox" "$base/share/deep/link" "$base"/*/one >$tmp/walked
walk >$tmp/walk.log 2>&1 &
walker=$!

reads_held() {
    perl -we 'sysseek STDIN, 0, 0 or die $!; print or die $! while sysread STDIN, $_, 4096' <&$1
}

for round in $(seq 20); do
    # By turns Nix works by itself and the daemon sees its work, or the other way round.
    url=$direct_url other=$daemon_url
    [ $((round % 4)) -lt 2 ] || { url=$daemon_url other=$direct_url; }

    step "round $round: build in the merged store"
    readarray -t built < <(build $(round_of $round))
    same "${#built[@]}" 4 "number of outputs"
    shows_upper "${built[@]}"
    same "$(cat "$(in_merged "${built[1]}")" "$(in_merged "${built[2]}")/dir/text")" \
        "round $round"$'\n'"$(cat "$(in_upper "${built[1]}")")" "contents"
    uuid=$(in_merged "${built[0]}")/deep/uuid
    upper_uuid=$(cat "$uuid")

    step "round $round: build the same in the lower store"
    same "$(build_below $(round_of $round))" "$(printf '%s\n' "${built[@]}")" "paths"
    shows_upper "${built[@]}"
    same "$(cat "$uuid")" "$upper_uuid" "what differs"
    exec 5<"$(in_merged "${built[1]}")" 6<"$(in_merged "${built[0]}")/deep/deeper/7"
    # Nix would find the object in $PWD and keep it.
    (cd "$(in_merged "${built[0]}")" && exec env -i sleep 1000) &
    inside=$!

    step "round $round: collect in the merged store"
    collect_merged
    shows_lower "${built[@]}"
    [ "$(cat "$uuid")" != "$upper_uuid" ] || die "the upper's content still shows"
    same "$(reads_held 5)$(reads_held 6)" "round ${round}7 of $round" "files held open"
    same "$(cat /proc/$inside/cwd/text)" "round $round" "a working directory"
    # This query leaves no row in the upper database.
    for who in "$url" "$other"; do
        same "$(nix-store --store "$who" -q --hash "${built[0]}")" \
            "sha256:$(nix-hash --type sha256 --base32 "$(in_merged "${built[0]}")")" "hash"
    done

    if [ $((round % 2)) = 1 ]; then
        step "round $round: collect in the lower store, which keeps it"
        for path in "${built[@]}"; do
            below ln -s "$path" "$lower/nix/var/nix/gcroots/kept-${path##*/}"
        done
        below_store --gc >$tmp/gc.log 2>&1
        shows_lower "${built[@]}"
        same "$(reads_held 5)$(reads_held 6)" "round ${round}7 of $round" "files held open"
        is_valid "$other" "${built[3]}" || die "not valid"

        step "round $round: build again where there is nothing to do"
        same "$(build $(round_of $round))" "$(printf '%s\n' "${built[@]}")" "paths"
        shows_lower "${built[@]}"
    else
        known=
        if [ $((round % 4)) = 0 ]; then
            # This one does: then the row outlives the object, until Nix verifies.
            is_valid "$url" "${built[3]}" || die "not valid"
            known=yes
        fi
        step "round $round: collect in the lower store, which loses it"
        below find "$lower/nix/var/nix/gcroots" -name 'kept-*' -delete
        below_store --gc >$tmp/gc.log 2>&1
        for path in "${built[@]}"; do promptly is_gone "$(in_merged "$path")" || die "$path still shows"; done
        right
        for who in "$url" "$other"; do
            if [ "$known" ]; then is_valid "$who" "${built[3]}" || die "no row"
            else fails is_valid "$who" "${built[3]}"; fi
        done
        if [ "$known" ]; then
            store --verify >$tmp/verify.log 2>&1 || { cat $tmp/verify.log; die "verify"; }
            grep -q "${built[3]}.* disappeared" $tmp/verify.log || die "verify sees it"
            fails is_valid "$other" "${built[3]}"
        fi

        if [ -z "$known" ]; then
            step "round $round: names that were missing come back in the lower store, and go"
            build_below $(round_of $round) >/dev/null
            # By name, before a listing tells of them.
            promptly test -f "$(in_merged "${built[1]}")" || die "still missing"
            promptly test -d "$(in_merged "${built[0]}")" || die "still missing"
            shows_lower "${built[@]}"
            below_store --gc >$tmp/gc.log 2>&1
            for path in "${built[@]}"; do promptly is_gone "$(in_merged "$path")" || die "$path still shows"; done
            right
        fi

        step "round $round: build it again in the merged store"
        lower_uuid=$(cat "$(in_merged "${built[0]}")/deep/uuid" 2>/dev/null) || true
        same "$lower_uuid" "" "the uuid of what is gone"
        same "$(build $(round_of $round))" "$(printf '%s\n' "${built[@]}")" "paths"
        shows_upper "${built[@]}"
        for who in "$url" "$other"; do
            is_valid "$who" "${built[3]}" || die "not valid"
        done
    fi
    exec 5<&- 6<&-
    kill $inside
    wait $inside 2>/dev/null || true
done
url=$direct_url

duplicate() {
    readarray -t built < <(build $(round_of "$1"))
    build_below $(round_of "$1") >/dev/null
    shows_upper "${built[@]}"
}

for who in "$direct_url" "$daemon_url"; do
    url=$who
    step "delete a duplicate file and duplicate directories (${url%%:*})"
    duplicate "delete-${url%%:*}"
    for path in "${built[1]}" "${built[3]}" "${built[2]}" "${built[0]}"; do
        store --delete "$path" >$tmp/delete.log 2>&1 || { cat $tmp/delete.log; die "delete"; }
        shows_lower "$path"
    done
    store --check-validity "${built[@]}"
    step "optimise drops duplicates (${url%%:*})"
    duplicate "optimise-${url%%:*}"
    store --optimise >$tmp/optimise.log 2>&1 || { cat $tmp/optimise.log; die "optimise"; }
    shows_lower "${built[@]}"
    store --check-validity "${built[@]}"
done
url=$direct_url
collect_merged

step "with overstore-sync as remount-hook there is no moment to wait for"
printf '#!/bin/sh\necho "$# $*" >>%s/hooked\nexec /run/bin/overstore-sync "$@"\n' $tmp >$tmp/hook
chmod +x $tmp/hook
for hook in /run/bin/overstore-sync $tmp/hook; do
    url="$direct_url&remount-hook=$hook"
    # A second attempt of the collector (see gc) would call no hook: nothing is only in the lower.
    below_store --gc >$tmp/gc.log 2>&1
    duplicate "hook-${hook##*/}"
    store --delete "${built[3]}" >$tmp/delete.log 2>&1 || { cat $tmp/delete.log; die "delete"; }
    is_right || die "the hook did not wait"
    keep "${built[3]}"
    store --gc >$tmp/gc.log 2>&1 || { cat $tmp/gc.log; die "gc"; }
    is_right || die "the hook did not wait"
    absent "$(in_upper "${built[1]}")"
    release "${built[3]}"
done
same "$(cat $tmp/hooked)" "1 $merged"$'\n'"1 $merged" "how the hook was called"
url="$direct_url&remount-hook=/bin/false"
duplicate hook-fails
fails store --delete "${built[1]}"
url=$direct_url

step "the hook works from another mount namespace"
other=(unshare --mount)
[ "$MODE" = root ] || other+=(--user --map-root-user)
"${other[@]}" overstore-sync "$merged"
"${other[@]}" --propagation private overstore-sync "$merged"
fails "${other[@]}" overstore-sync "$tmp"

if [ "$MODE" != user ]; then
    step "mount -o remount fails for want of a helper, and changes nothing"
    duplicate remount
    store --delete "${built[1]}" >$tmp/delete.log 2>&1 || { cat $tmp/delete.log; die "delete"; }
    rc=0
    mount -o remount "$merged" 2>$tmp/remount.log || rc=$?
    same $rc 127 "exit code"
    grep -q "overstore,lowerdir=$lower_store,upperdir=$upper: not found" $tmp/remount.log ||
        die "$(cat $tmp/remount.log)"
    shows_lower "${built[1]}"
    exec 5<"$(in_merged "${built[0]}")/text"
    LIBMOUNT_FORCE_MOUNT2=always mount -i -o remount "$merged"
    same "$(reads_held 5)" "round remount" "a file held open"
    exec 5<&-
    right
fi

step "nobody was told anything wrong"
: >$tmp/enough
wait $walker
same "$(cat $tmp/walk.log)" "" "what a reader met meanwhile"
finds_none
no_whiteouts
end_daemon

step "unmount"
unmount_merged
