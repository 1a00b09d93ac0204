# SPDX-License-Identifier: MIT OR Apache-2.0
# What Nix does while the test keeps, serves or looks for roots. usage: nix.sh SCRATCH STEP [ARGS]
# Runs inside a root folder; the scratch directory has the same path on both sides.
set -euEo pipefail
scratch=$1 step=$2
shift 2
export HOME=/root NIX_CONF_DIR=/root/conf
mkdir -p $NIX_CONF_DIR
printf '%s\n' 'build-users-group =' 'sandbox = false' 'substituters =' >$NIX_CONF_DIR/nix.conf
store=$scratch/store state=$scratch/state
url="local?store=$store&real=$store&state=$state&log=$scratch/log"
nix_store() { nix-store --store "$url" "$@"; }
printed_roots() { nix_store --gc --print-roots | tr -d '"' | grep -v '^{temp' | sort >"$scratch/$1"; }

case $step in
    add) # NAME: an object with this content
        echo "$1" >/tmp/"$1"
        nix_store --add /tmp/"$1" ;;
    collect) nix_store --gc >&2 ;;
    printed) printed_roots printed ;;
    rooted) # PATH LINK: by Nix's own command
        nix_store --add-root "$2" --realise "$1" ;;
    build) # A build that says it runs, and ends when it is told to.
        drv=$(nix-instantiate --store "$url" -E "derivation { name = \"slow\"; \
            system = \"x86_64-linux\"; builder = \"/bin/sh\"; \
            args = [ \"-c\" \"echo \$out >$scratch/building; read x <$scratch/end; echo >\$out\" ]; }")
        nix_store --realise "$drv" ;;
    run) # Programs that run from the store until they are told to end.
        mkdir -p /tmp/tool/bin
        cp /bin/busybox /tmp/tool/bin/cat
        tool=$(nix_store --add /tmp/tool)
        cwd=$(nix_store --add /tmp/tool/bin)
        for name in variable open hidden; do
            echo $name >/tmp/$name
            declare $name="$(nix_store --add /tmp/$name)"
        done
        mkdir "$scratch/elsewhere"
        mount --bind "$store" "$scratch/elsewhere"
        away=$scratch/elsewhere/${hidden##*/}
        (cd "$cwd" && USED="a:$variable/x" exec "$tool/bin/cat" "$scratch/end") 9<"$open" &
        "$tool/bin/cat" "$scratch/end" 9<"$away" &
        wait_for() { until grep -qz "bin/cat" /proc/"$1"/cmdline; do :; done; }
        for pid in $(jobs -p); do wait_for "$pid"; done
        printed_roots printed
        printf '%s\n' "$tool" "$cwd" "$variable" "$open" "$hidden" >"$scratch/used.new"
        mv "$scratch/used.new" "$scratch/used"
        wait ;;
esac
