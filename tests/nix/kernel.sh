# SPDX-License-Identifier: MIT OR Apache-2.0
# Nix on a view that the kernel backend mounted: by `overstore mount` and by mount(8), with the mount
# helper as remount-hook. What the kernel shows of layers that change underneath is left to it but
# for what the hook promises.
. "$(dirname "$(realpath "$0")")/common.sh"
hook=/run/bin/overstore-refresh
plain_url=$url
url="$url&remount-hook=$hook"

mount_id() { findmnt -no ID "$merged"; }
mount_options() { findmnt -no FS-OPTIONS "$merged"; }
# As this process and as the daemon in its own mount namespace see it.
everywhere() { echo "$merged" "/proc/$daemon/root$merged"; }
shows_lower() {
    local path place
    for path in "$@"; do
        absent "$(in_upper "$path")"
        present "$(in_lower "$path")"
        for place in $(everywhere); do
            same "$(cd "$place" && find "${path##*/}" -printf '%i %y %m %n %T@ %p %l\n' | sort)" \
                "$(cd $lower_store && find "${path##*/}" -printf '%i %y %m %n %T@ %p %l\n' | sort)" \
                "what $place shows of ${path##*/}"
            diff -r --no-dereference "$place/${path##*/}" "$(in_lower "$path")" || die "$path"
        done
    done
}

begin
step "the mount is what was asked for"
same "$(findmnt -no FSTYPE "$merged")" overlay "type"
case $MODE-$(mount_options) in
    root-*userxattr*) die "root has no need of userxattr: $(mount_options)" ;;
    root-* | userns-*,userxattr*) ;;
    *) die "no userxattr: $(mount_options)" ;;
esac
overstore status --json "$merged" | grep -q '"backend": "kernel"' || die "$(overstore status)"

step "add a tree"
tree=$(store --add $src/tree)
diff -r --no-dereference $src/tree "$(in_merged "$tree")" || die "the tree differs"
sealed "$tree"

step "build directories in the sandbox, from inputs of both layers"
readarray -t built < <(build -A app -A top.out -A top.dev -A several -A fixed)
same "${#built[@]}" 10 "number of outputs"
for path in "${built[@]}"; do sealed "$path"; done
readarray -t round < <(build $(round_of 1))
for path in "${round[@]}"; do sealed "$path"; done
no_whiteouts
finds_none

step "delete and build again"
fickle=$(build -A fickle)
old=$(cat "$(in_merged "$fickle")/uuid")
store --delete "$fickle" >/dev/null
absent "$(in_merged "$fickle")"
absent "$(in_upper "$fickle")"
same "$(build -A fickle)" "$fickle"
[ "$(cat "$(in_merged "$fickle")/uuid")" != "$old" ] || die "the old content shows"
sealed "$fickle"

step "unmount, and the lower store gains what the upper has"
unmount_merged
build_below $(round_of 1) >/dev/null
for path in $(below nix-store --store "local?root=$lower" --add $src/spare $src/tree); do
    present "$(in_lower "$path")"
done
upper_uuid=$(cat "$(in_upper "${round[0]}")/deep/uuid")
[ "$(cat "$(in_lower "${round[0]}")/deep/uuid")" != "$upper_uuid" ] || die "one and the same"

step "mount -t overstore, by mount(8) and its helper"
mount -t overstore overlay "$merged" \
    -o "lowerdir=$lower_store,upperdir=$upper,backend=kernel,nofail,x-systemd.automount"
same "$(findmnt -no SOURCE,FSTYPE "$merged" | tr -s ' ')" "overlay overlay" "source and type"
nix store info --store "$url"
id=$(mount_id)
start_daemon
same "$(cat "$(in_merged "${round[0]}")/deep/uuid")" "$upper_uuid" "the upper's content"

step "the daemon deletes duplicates, and its hook has the lower ones show everywhere"
direct_url=$url url=$daemon_url
exec 5<"$(in_merged "${round[1]}")"
store --delete "${round[3]}" "${round[1]}" "${round[2]}" "${round[0]}" >$tmp/delete.log 2>&1 ||
    { cat $tmp/delete.log; die "delete"; }
shows_lower "${round[0]}" "${round[2]}" "${round[3]}"
# The kernel keeps the name of what is in use with it, until it is refreshed once more.
same "$(cat <&5)" "round 1" "a file held open"
exec 5<&-
overstore-refresh "$merged"
shows_lower "${round[1]}"
same "$(mount_id)" "$id" "the mount"
for who in "$direct_url" "$daemon_url"; do
    same "$(nix-store --store "$who" -q --hash "${round[0]}")" \
        "sha256:$(nix-hash --type sha256 --base32 "$(in_lower "${round[0]}")")" "hash"
done
url=$direct_url

step "without a hook Nix asks for one; optimise, with it, drops a duplicate"
url=$plain_url
store --delete "$tree" >$tmp/delete.log 2>&1
grep -q 'needs remounting, set remount-hook' $tmp/delete.log || { cat $tmp/delete.log; die "silent"; }
overstore-sync "$merged"
shows_lower "$tree"
url=$direct_url
cp -dR --preserve=mode,timestamps "$(in_lower "${round[1]}")" $upper/
overstore-refresh "$merged"
[ "$(stat -c %i "$(in_merged "${round[1]}")")" = "$(stat -c %i "$(in_upper "${round[1]}")")" ] ||
    die "the upper's does not show"
store --check-validity "${round[1]}"
store --optimise >$tmp/optimise.log 2>&1 || { cat $tmp/optimise.log; die "optimise"; }
shows_lower "${round[1]}"

step "the daemon goes on, on the same mount"
url=$daemon_url
readarray -t round < <(build $(round_of 2))
for path in "${round[@]}"; do sealed "$path"; done
same "$(build -A app --check)" "${built[0]}" "built again to compare"
store --realise --add-root $state/gcroots/keep "${round[0]}" >/dev/null
gc
sealed "${round[0]}"
for path in "${round[@]:1}" "${built[@]}"; do absent "$(in_merged "$path")"; done
rm $state/gcroots/keep
finds_none
end_daemon
url=$direct_url
same "$(mount_id)" "$id" "the mount"

collect
same "$(ls -A $upper | grep -vx .links || true)" "" "left in the upper directory"
no_whiteouts
finds_none

step "unmount"
unmount_merged
