# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by the steps that run inside a root folder, where it is /run/common/verified.sh.

# Has Nix verify a store; words for nix-store follow. Shows what it said and fails unless it finds nothing.
# Nix tells what it finds on standard error, and ends with 0 after it has removed the row of an object that
# disappeared.
nix_finds_nothing() {
    local store=$1 said
    shift
    said=$(nix-store --store "$store" --verify --check-contents "$@" 2>&1) || { echo "$said"; return 1; }
    if grep -qE 'modified|disappeared|error' <<<"$said"; then echo "$said"; return 1; fi
}
