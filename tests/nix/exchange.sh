# SPDX-License-Identifier: MIT OR Apache-2.0
# Queries over both layers, copies in and out, export and import, and a daemon on the store.
. "$(dirname "$(realpath "$0")")/common.sh"
begin
base=$(lower_path lower)
tools=$(lower_path tools)

step "queries over lower objects agree with the lower store"
lower_says() { nix-store --store "local?root=/mnt/lower&read-only=true" "$@"; }
for query in --references --requisites --hash --size --deriver; do
    same "$(store -q $query "$base")" "$(lower_says -q $query "$base")" "query $query"
done
same "$(store -q --references "$base")" "$tools" "references of the lower object"

step "queries over both layers"
app=$(build -A app)
same "$(store -q --references "$app" | grep -c -e "$base" -e "$tools")" 2 "lower references"
same "$(store -q --requisites "$app" | sort)" "$(printf '%s\n' "$app" "$base" "$tools" | sort)" \
    "requisites"
store -q --referrers "$base" | grep -qx "$app" || die "no upper referrer of a lower object"
store -q --referrers "$tools" | grep -qx "$base" || die "no lower referrer of a lower object"
same "$(nix path-info --store "$url" -r "$app" | wc -l)" 3 "closure of path-info"
same "$(nix store path-from-hash-part --store "$url" "$(basename "$base" | cut -c1-32)")" "$base"

step "copy out to a binary cache"
nix copy --store "$url" --to "file://$tmp/cache" "$app" 2>&1
same "$(ls $tmp/cache/*.narinfo | wc -l)" 3 "objects in the binary cache"

step "copy out to another store, and its contents are equal"
nix copy --no-check-sigs --from "$url" --to "local?root=$tmp/other" "$app" 2>&1
diff -r --no-dereference "$tmp/other$app" "$(in_merged "$app")" || die "the copy differs"
diff -r --no-dereference "$tmp/other$base" "$(in_lower "$base")" || die "the copy differs"

step "copy in from the binary cache"
store --delete "$app" >/dev/null
absent "$(in_merged "$app")"
nix copy --no-check-sigs --from "file://$tmp/cache" --to "$url" "$app" 2>&1
sealed "$app"
absent "$(in_upper "$base")"

step "copy in from another store"
large=$(nix-store --store "local?root=$tmp/other" --add $src/large)
nix copy --no-check-sigs --from "local?root=$tmp/other" --to "$url" "$large" 2>&1
file_same "$(in_merged "$large")" $src/large
sealed "$large"

step "substitute from the binary cache"
store --delete "$app" >/dev/null
store --realise --option substituters "file://$tmp/cache" "$app" >/dev/null
sealed "$app"

step "export and import"
store --export "$app" "$large" >$tmp/export
before=$(nix-store --dump "$(in_merged "$app")" | sha256sum)
store --delete "$app" "$large" >/dev/null
absent "$(in_merged "$large")"
# Nix forgets to look below for references unless they were asked for before.
store --check-validity "$base"
store --import <$tmp/export >/dev/null
same "$(nix-store --dump "$(in_merged "$app")" | sha256sum)" "$before" "the imported object"
sealed "$app"
sealed "$large"

step "verify the contents"
finds_none
no_whiteouts

step "a daemon on the store"
start_daemon
url_direct=$url
url=$daemon_url

step "a client of the daemon adds and builds"
file=$(store --add $src/spare)
file_same "$(in_merged "$file")" $src/spare
sealed "$file"
readarray -t top < <(build -A top.out -A top.dev)
sealed "${top[0]}"
nix copy --no-check-sigs --from "local?root=$tmp/other" --to "$url" "$large" 2>&1

step "a client of the daemon queries, deletes and verifies"
store -q --requisites "${top[0]}" >/dev/null
store -q --referrers "$base" | grep -qx "$app" || die "no referrer through the daemon"
store --delete "$file" >/dev/null
absent "$(in_merged "$file")"
finds_none
no_whiteouts
collect

end_daemon
url=$url_direct

step "unmount"
unmount_merged
