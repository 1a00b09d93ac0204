# SPDX-License-Identifier: MIT OR Apache-2.0
# Sandboxed builds on the merged store, and running what was built.
. "$(dirname "$(realpath "$0")")/common.sh"
begin

step "build a directory from inputs of the lower store"
app=$(build -A app)
sealed "$app"
same "$(cat "$(in_merged "$app")/lib/many/file-499")" 499
same "$(ls "$(in_merged "$app")/lib/many" | wc -l)" 500 "entries of the large directory"
same "$(readlink "$(in_merged "$app")/lib/one")" "$(lower_path lower)/share/one"
same "$(stat -c %h "$(in_merged "$app")/lib/first")" 2 "hard link of the builder"
absent "$(in_upper "$(lower_path lower)")"
no_whiteouts

step "build two outputs from inputs of both layers"
readarray -t top < <(build -A top.out -A top.dev)
sealed "${top[0]}"
sealed "${top[1]}"
same "$(wc -l <"$(in_merged "${top[0]}")/sorted")" 500 "lines of the output"
same "$(cat "$(in_merged "${top[1]}")/include/where")" "${top[0]}" "the other output's name"
same "$(store -q --references "${top[1]}")" "${top[0]}" "references found by scanning"

step "several builds at once"
readarray -t several < <(build -A several -j 4)
same "${#several[@]}" 6 "number of outputs"
for path in "${several[@]}"; do sealed "$path"; done

step "an output with a fixed hash"
fixed=$(build -A fixed)
sealed "$fixed"
same "$(cat "$(in_merged "$fixed")")" fixed

step "build again to compare"
build -A app --check >/dev/null
sealed "$app"

step "a failing build leaves nothing valid"
fails build -A failing
grep -q 'exit code 7' $tmp/fails.log || { cat $tmp/fails.log; die "another failure"; }
same "$(ls "$merged" | grep -- '-failing$' || true)" "" "the failed output"

step "an object that is deleted and built again shows its new content"
fickle=$(build -A fickle)
for round in 1 2 3; do
    old=$(cat "$(in_merged "$fickle")/uuid")
    old_names=$(ls "$(in_merged "$fickle")")
    store --delete "$fickle" >/dev/null
    absent "$(in_merged "$fickle")"
    same "$(build -A fickle)" "$fickle"
    new=$(cat "$(in_merged "$fickle")/uuid")
    [ "$new" != "$old" ] || die "round $round shows the old content"
    [ "$(ls "$(in_merged "$fickle")")" != "$old_names" ] || die "round $round lists old names"
    same "$new" "$(cat "$(in_upper "$fickle")/uuid")" "round $round"
    sealed "$fickle"
done

step "nix run"
same "$(nix run --store "$url" --impure -f "$world" app -- some words)" \
    "lower says app some words"

step "nix shell"
same "$(nix shell --store "$url" "$app" "$(lower_path lower)" -c app in a shell)" \
    "lower says app in a shell"

step "verify the contents"
finds_none
no_whiteouts

collect

step "build again after gc"
same "$(build -A top.out)" "${top[0]}"
sealed "${top[0]}"
collect

step "unmount"
unmount_merged

if fuse_only; then
    step "overstore run shows the store where programs expect it"
    same "$(overstore run "$url" -- "$(lower_path lower)/bin/lower" from inside)" \
        "lower says from inside"
    absent /nix
fi
