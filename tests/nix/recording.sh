# SPDX-License-Identifier: MIT OR Apache-2.0
# Nix adds and collects while the driver records what is completed by hand.
. "$(dirname "$(realpath "$0")")/common.sh"

step "mount, recording"
mkdir -p $tmp/other
overstore mount --foreground -v -o record "$url" >>$tmp/driver.log 2>&1 &
soon findmnt "$merged" >$tmp/found.log
nix store info --store "$url"
recorded() { grep -c "recorded $1" $tmp/driver.log || true; }
# A turn comes two seconds after the last change, on a busy machine later.
becomes_valid() {
    local left=300
    until store -q --hash "$1" >$tmp/hash.log 2>&1; do
        [ $((left -= 1)) -gt 0 ] || { cat $tmp/driver.log; die "not recorded: $1"; }
        sleep 0.2
    done
}
# Copies what is in another store into the view, as it is there.
by_hand() { cp -R --preserve=mode,timestamps "$tmp/other$1" "$merged/"; }
other() { nix-store --store "local?root=$tmp/other" "$@"; }

step "what is put there by hand gets the row that Nix would make"
tree=$(other --add $src/tree)
by_hand "$tree"
becomes_valid "$tree"
for what in --hash --size --references; do
    same "$(store -q $what "$tree")" "$(other -q $what "$tree")" "$what of $tree"
done
store --check-validity "$tree"
sealed "$tree"

step "references to the lower are found"
base=$(lower_path lower)
refers=/nix/store/00000000000000000000000000000001-refers
echo "$base/bin/lower and $tree" >$merged/${refers##*/}
chmod 0444 $merged/${refers##*/}
touch -d @1 $merged/${refers##*/}
becomes_valid $refers
same "$(store -q --references $refers | sort)" "$(printf '%s\n' "$base" "$tree" | sort)" references
same "$(store -q --hash $refers)" \
    "sha256:$(nix-hash --type sha256 --base32 $merged/${refers##*/})" "hash"
keep $refers

step "Nix adds 200 objects"
mkdir $tmp/many
for n in $(seq 200); do echo "object $n" >$tmp/many/file-$n; done
store --add $tmp/many/* >$tmp/added.log
same "$(sort -u $tmp/added.log | wc -l)" 200 "objects added"
last=$(other --add $src/file)
by_hand "$last"
becomes_valid "$last"
while read -r path; do
    store -q --hash "$path" >$tmp/hash.log
    same "$(recorded "$path")" 0 "$path, which Nix has registered, was recorded"
done < <(sed -n '1~40p' $tmp/added.log)
same "$(grep -c 'recorded /' $tmp/driver.log)" 3 "objects recorded"
finds_none

step "Nix collects while objects are put there by hand"
(for _ in 1 2 3; do gc; done) &
collector=$!
for n in $(seq 60); do
    path=$merged/$(printf '%032d' $((n + 100)))-hand
    # A collector may take what is not valid yet, between any two of these.
    { echo "by hand $n $refers" >"$path" && chmod 0444 "$path" && touch --no-create -d @1 "$path"; } \
        2>$tmp/hand.log || true
done
wait $collector
store --check-validity $refers "$base" "$tree"
finds_none

step "what was not collected is valid in the end"
final=/nix/store/00000000000000000000000000000002-final
echo final >$merged/${final##*/}
chmod 0444 $merged/${final##*/}
touch -d @1 $merged/${final##*/}
becomes_valid $final
for path in $upper/*-hand; do
    same "$(stat -c %a:%Y "$path")" 444:1 "$path"
    becomes_valid "/nix/store/${path##*/}"
done
finds_none
if grep -E ' (WARN|ERROR) .*record' $tmp/driver.log; then die "the recorder complains"; fi
release $refers
collect
unmount_merged
