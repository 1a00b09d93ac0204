# SPDX-License-Identifier: MIT OR Apache-2.0
# What overstore writes, Nix has written the same, row by row and byte by byte, and reads; and the
# reverse.
. "$(dirname "$(realpath "$0")")/common.sh"
begin
export OVERSTORE_STORE=$url
db=$state/db/db.sqlite
# A store of Nix alone, whose rows are the measure.
other=$tmp/other
other_db=$other/nix/var/nix/db/db.sqlite
nix_alone() { nix-store --store "local?root=$other" "$@"; }
alone_nix() { nix --store "local?root=$other" "$@"; }

# All that a database says of a path, but for numbers and times.
rows() {
    sqlite3 "$1" "
        select 'row', hash, ifnull(deriver, '-'), narSize, ifnull(ultimate, '-'),
            ifnull(sigs, '-'), ifnull(ca, '-') from ValidPaths where path = '$2';
        select 'time', registrationTime > 1700000000 from ValidPaths where path = '$2';
        select 'ref', r.path from Refs join ValidPaths v on referrer = v.id
            join ValidPaths r on reference = r.id where v.path = '$2' order by r.path;
        select 'out', o.id, o.path from DerivationOutputs o join ValidPaths v on drv = v.id
            where v.path = '$2' order by o.id;"
}
# The object is in the upper, canonical, and its rows are those of Nix.
like_nix() {
    sealed "$1"
    [ -n "$(rows $other_db "$1")" ] || die "Nix has no $1"
    same "$(rows $db "$1")" "$(rows $other_db "$1")" "rows of $1"
    same "$(cd $upper && find "${1##*/}" -printf '%y %m %s %T@ %p %l\n' | sort)" \
        "$(cd $other/nix/store && find "${1##*/}" -printf '%y %m %s %T@ %p %l\n' | sort)" \
        "the tree of $1"
    store --check-validity "$1"
}
# Nothing is left but objects.
tidy() {
    same "$(ls -A $upper | grep -E '\.lock$|^tmp-' || true)" "" "left in the upper directory"
    no_whiteouts
}

step "add in each mode, with each hash"
for name in tree large file tree/run tree/link; do
    path=$(nix_alone --add $src/$name)
    same "$(overstore add --dry-run $src/$name)" "$path" "path of $name"
    same "$(overstore add $src/$name)" "$path" "path of $name"
    like_nix "$path"
done
for hash in md5 sha1 sha256 sha512; do
    for name in twice tree/run; do
        path=$(nix_alone --add-fixed --recursive $hash $src/$name)
        same "$(overstore add --hash-algo $hash $src/$name)" "$path" "path of $name"
        [ "$name-$hash" = twice-sha256 ] || like_nix "$path"
    done
    path=$(nix_alone --add-fixed $hash $src/tree/run)
    same "$(overstore add --mode flat --hash-algo $hash $src/tree/run)" "$path" "flat, $hash"
    like_nix "$path"
done
for mode in text flat nar; do
    path=$(alone_nix store add --mode $mode --name other-name $src/spare)
    same "$(overstore add --mode $mode --name other-name $src/spare)" "$path" "$mode"
    like_nix "$path"
done
tidy

step "a derivation has its outputs"
nix-instantiate --store "local?root=$other" "$world" -A top >$tmp/drv 2>$tmp/log
drv=$(sed 's/!.*//' $tmp/drv | head -n 1)
for path in $(nix_alone -qR "$drv"); do
    options=()
    for reference in $(nix_alone -q --references "$path"); do options+=(--reference "$reference"); done
    case $path in
        *.drv) same "$(overstore add --mode text --name "${path#*-}" "${options[@]}" "$other$path")" "$path" ;;
        *) same "$(overstore add --name "${path#*-}" "$other$path")" "$path" ;;
    esac
    if [ -e "$(in_lower "$path")" ]; then absent "$(in_upper "$path")"; else like_nix "$path"; fi
done

step "what the lower store has is not written again, but known"
doubled=$(lower_path doubled)
same "$(sqlite3 $db "select count(*) from ValidPaths where path = '$doubled'")" 0
same "$(overstore add $src/doubled)" "$doubled"
absent "$(in_upper "$doubled")"
same "$(rows $db "$doubled")" "$(rows $lower/nix/var/nix/db/db.sqlite "$doubled")" "copied row"

step "what is in the way without a row is replaced"
path=$(overstore add --name in-the-way --dry-run $src/tree)
mkdir -p "$(in_merged "$path")/deep"
echo rubbish >"$(in_merged "$path")/deep/file"
chmod -R a-w "$(in_merged "$path")"
same "$(overstore add --name in-the-way $src/tree)" "$path"
same "$(alone_nix store add --name in-the-way $src/tree)" "$path"
like_nix "$path"

step "what hides an object of the lower store without a row goes"
shared=$(lower_path shared)
same "$(sqlite3 $db "select count(*) from ValidPaths where path = '$shared'")" 0
echo half >"$(in_upper "$shared")"
same "$(overstore add $src/shared)" "$shared"
absent "$(in_upper "$shared")"
refresh
file_same "$(in_merged "$shared")" $src/shared

step "import what Nix exports, with references that only the lower store has"
app=$(build -A app)
base=$(lower_path lower)
store --export "$app" >$tmp/export
closure=$(store -qR "$app" | sort -u)
before=$(rows $db "$app" | sed 's/^row\(.*\)|1|-|-$/row\1|-|-|-/')
hash=$(nix-store --dump "$(in_merged "$app")" | sha256sum)
gc
same "$(sqlite3 $db "select count(*) from ValidPaths where path = '$base'")" 0 "rows of the lower"
same "$(overstore import <$tmp/export)" "$app" "what was imported"
sealed "$app"
same "$(rows $db "$app")" "$before" "rows of an imported object"
same "$(nix-store --dump "$(in_merged "$app")" | sha256sum)" "$hash" "the imported object"
same "$(overstore import <$tmp/export)" "$app" "what was imported again"
finds_none
tidy

step "what is exported is the stream of Nix, and Nix takes it"
tree=$(overstore add $src/tree)
overstore export $closure "$tree" "$doubled" >$tmp/ours
store --export $closure "$tree" "$doubled" >$tmp/theirs
file_same $tmp/ours $tmp/theirs
nix_alone --import <$tmp/ours >/dev/null
for path in $closure; do diff -r --no-dereference "$other$path" "$(in_merged "$path")"; done
store --delete "$app" "$tree" >/dev/null
nix_alone --export $closure "$tree" >$tmp/theirs
overstore import <$tmp/theirs | sort >$tmp/imported
same "$(cat $tmp/imported)" "$(printf '%s\n' $closure "$tree" | sort)" "what was imported"
for path in "$app" "$tree"; do sealed "$path"; done
absent "$(in_upper "$base")"

nix_alone --export "$(nix_alone --add $src/large)" >$tmp/theirs-large

step "a damaged stream leaves nothing"
store --delete "$app" >/dev/null
head -c $(($(stat -c %s $tmp/export) / 2)) $tmp/export >$tmp/half
fails overstore import <$tmp/half
absent "$(in_upper "$app")"
tidy
overstore import <$tmp/export >/dev/null

step "a dump is that of Nix, and is loaded like Nix does"
overstore dump-db >$tmp/ours
store --dump-db >$tmp/theirs
file_same $tmp/ours $tmp/theirs
overstore dump-db "$app" "$base" >$tmp/ours
store --dump-db "$app" "$base" >$tmp/theirs
file_same $tmp/ours $tmp/theirs
store --dump-db >$tmp/dump
url2="$url&state=$tmp/state2" url3="$url&state=$tmp/state3"
url2=${url2/&state=$state/} url3=${url3/&state=$state/}
overstore load-db --store "$url2" <$tmp/dump
nix-store --store "$url3" --load-db <$tmp/dump
# A dump has no content addresses, signatures and origins: Nix loses what it knew of them.
said() { rows "$@" | sed 's/^\(row|[^|]*|[^|]*|[^|]*\)|.*/\1/'; }
for path in $(sqlite3 $db "select path from ValidPaths"); do
    same "$(said $tmp/state2/db/db.sqlite "$path")" "$(said $tmp/state3/db/db.sqlite "$path")" \
        "loaded rows of $path"
done
overstore load-db <$tmp/dump
rows $db "$(lower_path tools)" | grep -q 'fixed:r:sha256' || die "the content address is lost"
nix-store --store "$url2" --dump-db >$tmp/theirs
file_same $tmp/theirs $tmp/dump
overstore dump-db --store "$url3" >$tmp/ours
file_same $tmp/ours $tmp/dump
finds_none "$url2"

step "register what was put there by hand"
zeros=$(printf '0%.0s' {1..32})
hand=/nix/store/$zeros-by-hand
cp -r $src/tree "$(in_merged "$hand")"
mkdir -p $other/nix/store
cp -r $src/tree "$other$hand"
printf '%s\n\n1\n%s\n' "$hand" "$base" | overstore register
# Nix canonicalises by the logical path: it is given what is canonical, with the hash.
chmod -R a-w "$other$hand" && find "$other$hand" -exec touch -h -d @1 {} +
overstore dump-db "$hand" | nix_alone --load-db
like_nix "$hand"
store --delete "$hand" >/dev/null

step "seal what was put there by hand"
ones=$(printf '1%.0s' {1..32})
first=/nix/store/$zeros-first second=/nix/store/$ones-second
fails overstore seal "$first"
mkdir "$(in_merged "$first")"
echo "$first and $base" >"$(in_merged "$first")/file"
ln -s "$second/file" "$(in_merged "$first")/link"
echo "see $base" >"$(in_merged "$second")"
same "$(overstore seal "$first" "$second" | sort)" "$(printf '%s\n' "$first" "$second")"
same "$(store -q --references "$first" | sort)" \
    "$(printf '%s\n' "$base" "$first" "$second" | sort)" "references of the first"
same "$(store -q --references "$second")" "$base" "references of the second"
sealed "$first"
sealed "$second"
finds_none
store --delete "$first" "$second" >/dev/null
echo "$second" >"$(in_merged "$first")"
echo "$first" >"$(in_merged "$second")"
fails overstore seal "$first" "$second"
grep -q cycle $tmp/fails.log || die "$(cat $tmp/fails.log)"
same "$(sqlite3 $db "select count(*) from ValidPaths where path in ('$first', '$second')")" 0
rm -f "$(in_merged "$first")" "$(in_merged "$second")"

step "signatures are ones that Nix accepts"
nix key generate-secret --key-name test-1 >$tmp/secret
nix key convert-secret-to-public <$tmp/secret >$tmp/public
overstore sign --key-file $tmp/secret "$app" "$tree" "$(lower_path twice)"
nix store verify --store "$url" --sigs-needed 1 --no-contents \
    --trusted-public-keys "$(cat $tmp/public)" "$app" "$tree" "$(lower_path twice)"

step "a link keeps what was added"
kept=$(overstore add --name kept --add-root $tmp/kept $src/file)
same "$(readlink $tmp/kept)" "$kept"
gc
sealed "$kept"
rm $tmp/kept

step "copied metadata is what Nix copies"
gc
overstore copy-up "$base"
for path in $(store -qR "$base"); do
    same "$(rows $db "$path")" "$(rows $lower/nix/var/nix/db/db.sqlite "$path")" "row of $path"
    absent "$(in_upper "$path")"
done
fails overstore copy-up "$first"

step "interrupted at any moment, the store verifies"
mkdir $tmp/many
for n in $(seq 200); do
    mkdir $tmp/many/$n
    for file in a b; do echo "$n $file" >$tmp/many/$n/$file; done
done
# Those that are killed leave what the next collection takes, so they come last.
for signal in INT INT KILL KILL; do
    overstore add $tmp/many/* >$tmp/added 2>$tmp/add.log &
    added=$!
    until [ -s $tmp/added ] || ! kill -0 $added 2>/dev/null; do :; done
    for _ in $(seq $((RANDOM % 400))); do :; done
    kill -$signal $added 2>/dev/null || true
    wait $added || true
    finds_none
    for path in $(cat $tmp/added); do store --check-validity "$path"; done
    [ $signal = KILL ] || tidy
done
overstore add $tmp/many/* >$tmp/added
same "$(sort -u $tmp/added | wc -l)" 200 "objects"
finds_none
gc
tidy

step "a store that may not be written says so"
fails overstore add --store "$url&read-only=true" $src/file
grep -q read-only $tmp/fails.log || die "$(cat $tmp/fails.log)"

collect
step "unmount"
unmount_merged
fails overstore add $src/file
grep -q 'overstore mount' $tmp/fails.log || die "$(cat $tmp/fails.log)"

# The kernel's layers must be of one filesystem, and a plain user cannot mount a small one.
[ "$MODE" = root ] && fuse_only || exit 0
step "a full disk leaves nothing, and the store goes on"
mkdir $tmp/small $tmp/small/upper
mount -t tmpfs -o size=8m tmpfs $tmp/small
mkdir $tmp/small/upper
url4="local-overlay://?root=$root&lower-store=$lower_url&upper-layer=$tmp/small/upper&state=$tmp/state4"
export OVERSTORE_STORE=$url4
overstore mount "$url4"
fails overstore add $src/large
grep -q 'No space' $tmp/fails.log || die "$(cat $tmp/fails.log)"
fails overstore import <$tmp/theirs-large
same "$(ls -A $tmp/small/upper | grep -vx .links || true)" "" "left on the full disk"
path=$(overstore add $src/tree)
nix-store --store "$url4" --check-validity "$path"
finds_none "$url4"
unmount_merged
umount $tmp/small
