# SPDX-License-Identifier: MIT OR Apache-2.0
# What real Nix makes of the trees, archives and streams that nix.rs has put into /mnt; what it makes
# itself it leaves there. Runs inside a root folder.
set -euEo pipefail
exec 2>&1
cd /mnt
export HOME=/root NIX_CONF_DIR=/tmp/conf LC_ALL=C
mkdir $NIX_CONF_DIR
printf '%s\n' 'build-users-group =' 'sandbox = false' 'substituters =' 'require-sigs = false' \
    'experimental-features = nix-command' >$NIX_CONF_DIR/nix.conf
now=start
step() { now=$*; echo "step: $*"; }
trap 'echo "FAILED in step \"$now\": line $LINENO: $BASH_COMMAND"' ERR

step "every tree has the hash that we say"
(cd trees && nix-hash --type sha256 --base32 [0-9]*) >/tmp/hashes
diff hashes /tmp/hashes

step "archives are the same, and restored"
for archive in archives/*; do
    name=${archive##*/}
    nix-store --dump "trees/$name" | cmp - "$archive"
    nix-store --restore "by-nix/$name" <"$archive"
done

step "trees and derivations are added"
carried=(archives/*)
nix-store --store /mnt/store --add "${carried[@]/archives/trees}" >added
drv=$(nix-instantiate --store /mnt/store -E 'let
    lib = builtins.toFile "lib" "text";
    tool = builtins.toFile "tool" "uses ${lib}";
    drv = name: input: derivation {
        inherit name input; system = "x86_64-linux"; builder = "/bin/sh"; args = [ tool lib ]; };
  in drv "second" (drv "first" tool)')

step "a stream of several objects"
nix-store --store /mnt/store --export \
    $(nix-store --store /mnt/store --query --requisites "${drv%%!*}") $(head -n 5 added) >export

step "an object that refers to itself is addressed by its content"
imported=$(nix-store --store /mnt/addressed-store --import <self.export)
nix store make-content-addressed --from /mnt/addressed-store --to /mnt/addressed-store "$imported"
sqlite3 /mnt/addressed-store/nix/var/nix/db/db.sqlite \
    "SELECT path, ca FROM ValidPaths WHERE ca != ''" >addressed
