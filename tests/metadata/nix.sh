# SPDX-License-Identifier: MIT OR Apache-2.0
# What Nix does to the stores below /mnt, and what it says of them, in files there; STEP is one of the
# functions. Runs inside a root folder.
set -euEo pipefail
exec 2>&1
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf LC_ALL=C
mkdir -p $HOME $NIX_CONF_DIR /mnt/said
printf '%s\n' 'experimental-features = nix-command local-overlay-store read-only-local-store' \
    'build-users-group =' 'sandbox = false' 'substituters =' >$NIX_CONF_DIR/nix.conf
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"' ERR
ours=local?root=/mnt/ours theirs=local?root=/mnt/theirs
overlay() {
    echo "local-overlay://?root=/mnt/m&real=/mnt/theirs/nix/store&lower-store=/mnt/theirs&upper-layer=/mnt/upper&state=/mnt/$1&check-mount=false"
}
infos() { nix path-info --json --all --store "$1" >"/mnt/said/$2" 2>/mnt/said/warnings; }
. /run/common/verified.sh
sound() { nix_finds_nothing "$1"; }

# Nix makes a store, with a derivation and its references, and signs.
make() {
    drv=$(nix-instantiate --store $theirs -E 'derivation {
        name = "tool"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "dev" ];
        args = [ (builtins.toFile "lib" "text") ]; }')
    drv=${drv%%!*}
    echo other >/mnt/other
    other=$(nix-store --store $theirs --add /mnt/other)
    nix key generate-secret --key-name test-1 >/mnt/key
    nix store sign --store $theirs --key-file /mnt/key "$other"
    basename "$drv" >/mnt/said/drv
    basename "$other" >/mnt/said/other
    nix-store --store $theirs --query --outputs "$drv" | sort >/mnt/said/outputs
    infos $theirs theirs
}
# Nix reads what was written into a store that it never saw, and writes there itself.
read_ours() {
    infos $ours ours
    sound $ours
    nix-store --store $ours --query --references "$1" | sort >/mnt/said/references
    nix-store --store $ours --query --referrers "$2" | sort >/mnt/said/referrers
    echo new >/mnt/new
    nix-store --store $ours --add /mnt/new
    nix store sign --store $ours --key-file /mnt/key "$2"
    if nix-store --store $ours --delete "$2" >/mnt/said/refused 2>&1; then false; fi
    nix-store --store $ours --delete "$1"
    infos $ours ours-then
}
read_theirs() {
    infos $theirs theirs
    sound $theirs
}
copy_up() {
    mkdir -p /mnt/upper
    nix-store --store "$(overlay state-nix)" --check-validity "$@"
}
read_overlay() {
    infos "$(overlay state-ours)" overlay
    nix-store --store "$(overlay state-ours)" --query --requisites "$1" | sort >/mnt/said/requisites
}
"$@"
