# SPDX-License-Identifier: MIT OR Apache-2.0
# Objects whose good contents are known: how they are corrupted, repaired and found right or wrong.

good=$tmp/good cache=$tmp/cache
sound() { echo -A "sound$1" --argstr n "$2"; }

# Changes some bytes, in a directory also names, and nothing that stat shows of the object.
corrupt() {
    local file=$1
    if [ -d "$1" ]; then
        file=$1/deep/deeper/text
        chmod u+w "$1" "$1/deep"
        rm "$1/link"
        echo extra >"$1/deep/extra"
        chmod 0444 "$1/deep/extra"
        touch -d @1 "$1/deep/extra" "$1/deep" "$1"
        chmod u-w "$1" "$1/deep"
    fi
    chmod u+w "$file"
    echo WRONG | dd of="$file" conv=notrunc status=none
    chmod u-w "$file"
    touch -d @1 "$file"
}

# What there is, but for what only repair works with.
tree() {
    (
        cd "$1"
        find . -mindepth 1 -name .links -prune -o -name '*.lock' -o \
            -printf '%y %m %U %s %T@ %p -> %l\n' | sort
        find . -mindepth 1 -name .links -prune -o -name '*.lock' -o -type f -print0 |
            sort -z | xargs -0 sha256sum
    )
}
verify() { store --verify --check-contents "$@" >$tmp/verify.log 2>&1; }
repair() { verify --repair --option substituters "file://$cache"; }
is_sound() {
    for path in "$@"; do
        diff -r --no-dereference "$good/${path##*/}" "$(in_merged "$path")" || die "$path is wrong"
        same "$(find "$(in_merged "$path")" ! -type l \( -perm /222 -o ! -newermt @0 -o -newermt @1 \))" \
            "" "what is not as Nix leaves it"
    done
}
is_wrong() {
    for path in "$@"; do
        ! diff -r --no-dereference "$good/${path##*/}" "$(in_merged "$path")" >$tmp/diff.log ||
            die "$path should be corrupt"
    done
}
