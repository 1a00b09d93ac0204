# SPDX-License-Identifier: MIT OR Apache-2.0
# Adding, sharing, deleting and collecting objects.
. "$(dirname "$(realpath "$0")")/common.sh"

# A directory and a file that both layers have, from before the mount.
twice=$(lower_path twice)
shared=$(lower_path shared)
cp --preserve=mode,timestamps "$(in_lower "$shared")" $upper/
cp -R --preserve=mode,timestamps "$(in_lower "$twice")" $upper/
lower_inodes=$(stat -c %i "$(in_lower "$twice")" "$(in_lower "$twice")/f")
upper_inodes=$(stat -c %i "$(in_upper "$twice")" "$(in_upper "$twice")/f")
begin

step "the merged view shows the lower store"
base=$(lower_path lower)
same "$(cat "$(in_merged "$base")/share/deep/link")" one "a symlink of the lower"
diff -r --no-dereference "$(in_lower "$base")" "$(in_merged "$base")" || die "a lower object"
same "$(cd $merged && find "${base##*/}" -printf '%i %y %m %n %T@ %p\n' | sort)" \
    "$(cd $lower_store && find "${base##*/}" -printf '%i %y %m %n %T@ %p\n' | sort)" \
    "identities of a lower object"

step "add a file"
file=$(store --add $src/file)
file_same "$(in_merged "$file")" $src/file
sealed "$file"
store --check-validity "$file"

step "add a tree"
tree=$(store --add $src/tree)
diff -r --no-dereference $src/tree "$(in_merged "$tree")" || die "the tree differs"
sealed "$tree"
same "$(nix-store --dump "$(in_merged "$tree")" | sha256sum)" \
    "$(nix-store --dump $src/tree | sha256sum)" "the archive of the tree"

step "add a file of 40 MB"
large=$(store --add $src/large)
file_same "$(in_merged "$large")" $src/large
sealed "$large"
same "$(find $upper -maxdepth 1 -name 'tmp-*')" "" "temporary directories"

step "what the lower store has is not written again"
doubled=$(store --add $src/doubled)
same "$doubled" "$(lower_path doubled)"
absent "$(in_upper "$doubled")"

share_files() {
    step "equal files become one through auto-optimise-store"
    mkdir $tmp/equal $tmp/equal2
    for n in equal/a equal/b equal2/c; do echo "equal content" >$tmp/$n; done
    equal=$(store --option auto-optimise-store true --add $tmp/equal)
    equal2=$(store --option auto-optimise-store true --add $tmp/equal2)
    for name in "$equal/a" "$equal/b" "$equal2/c"; do
        links=$(stat -c %h "$(in_merged "$name")")
        [ "$links" -ge 3 ] || die "$name has $links links"
        same "$(stat -c %i "$(in_merged "$name")")" "$(stat -c %i "$(in_upper "$equal/a")")" \
            "inode of $name"
    done
    sealed "$equal"
    if fuse_only; then
        step "the merged .links is the upper one alone"
        [ -n "$(ls $lower_store/.links)" ] || die "the lower store should have links"
        same "$(ls -f1i "$merged/.links" | grep -v ' \.' | sort)" \
            "$(ls -f1i $upper/.links | grep -v ' \.' | sort)" "entries of .links"
    fi
}
# OverlayFS wants to change the lower .links, which is not the user's.
if fuse_only || [ "$MODE" = root ]; then share_files; fi
no_whiteouts

step "verify the contents"
finds_none

step "delete a file and a tree"
for path in "$file" "$tree"; do
    store --delete "$path"
    absent "$(in_merged "$path")"
    absent "$(in_upper "$path")"
    fails store --check-validity "$path"
done
no_whiteouts

step "add them again"
same "$(store --add $src/tree)" "$tree"
diff -r --no-dereference $src/tree "$(in_merged "$tree")" || die "the tree differs"
sealed "$tree"

step "a duplicate is deleted from the upper and the lower one shows"
inodes() { stat -c %i "$(in_merged "$twice")" "$(in_merged "$twice")/f"; }
# OverlayFS gives a directory of both layers the lower one's number.
if fuse_only; then same "$(inodes)" "$upper_inodes" "inodes of the upper copy"; fi
same "$(cat "$(in_merged "$twice")/f")" twice
store --delete "$twice"
absent "$(in_upper "$twice")"
refresh
shows_lower() { [ "$(inodes)" = "$lower_inodes" ]; }
shows_lower || die "the upper's number still shows"
same "$(cat "$(in_merged "$twice")/f")" twice
store --check-validity "$twice"

step "optimise drops a duplicate and the lower one shows"
same "$(stat -c %i "$(in_merged "$shared")")" "$(stat -c %i "$(in_upper "$shared")")" \
    "inode of the upper copy"
store --check-validity "$shared"
store --optimise
absent "$(in_upper "$shared")"
refresh
shared_ino=$(stat -c %i "$(in_lower "$shared")")
shows_lower() { [ "$(stat -c %i "$(in_merged "$shared")")" = "$shared_ino" ]; }
shows_lower || die "the upper's number still shows"
file_same "$(in_merged "$shared")" $src/shared

step "deleting what only the lower has changes nothing"
store --delete "$doubled"
file_same "$(in_merged "$doubled")" $src/doubled
store --check-validity "$doubled"
no_whiteouts

step "a live object is not deleted, and survives gc"
store --realise --add-root $state/gcroots/keep "$tree" >/dev/null
fails store --delete "$tree"
gc
sealed "$tree"
absent "$(in_merged "$large")"
rm $state/gcroots/keep

step "rubbish is collected"
rubbish=$merged/$(printf 'a%.0s' {1..32})-rubbish
mkdir -p "$rubbish/deep"
echo x >"$rubbish/deep/x"
chmod -R a-w "$rubbish"
: >"$rubbish.lock"
collect
absent "$rubbish"

step "unmount"
unmount_merged
