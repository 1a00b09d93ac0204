# SPDX-License-Identifier: MIT OR Apache-2.0
# Real Nix makes overlay stores; every query is put to overstore, which changes nothing, and then to
# Nix, on a copy of the state: the answers are the same bytes. Runs inside a root folder, with /mnt
# for scratch; KIND is the kind of lower store.
set -euEo pipefail
exec 2>&1
KIND=$1
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf PATH=/run/bin:$PATH LC_ALL=C
lower=/mnt/lower at=/mnt/at out=/mnt/out
merged=$at/m/nix/store upper=$at/upper
mkdir -p $HOME $NIX_CONF_DIR $out $merged $upper $at/inner/upper
printf '%s\n' 'experimental-features = nix-command local-overlay-store read-only-local-store' \
    'build-users-group =' 'sandbox = false' 'substituters =' >$NIX_CONF_DIR/nix.conf
now=start
step() { now=$*; echo "step: $*"; }
trap 'echo "FAILED in step \"$now\": line $LINENO: $BASH_COMMAND"' ERR
die() { echo "FAILED in step \"$now\": $*"; exit 1; }
same() { [ "$1" = "$2" ] || die "${3-}: expected \"$2\", got \"$1\""; }
started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT

# The URL of the store whose states are in the directories $1 and $1.inner.
url_of() {
    local below=$lower
    case $KIND in
        local) ;;
        read-only) below="$lower?read-only=true" ;;
        daemon) below=unix%3A%2F%2F%2Fmnt%2Fsocket%3Froot%3D$lower ;;
        nested) below="local-overlay%3A%2F%2F%3Froot%3D$at/inner/m%26lower-store%3D$lower%26upper-layer%3D$at/inner/upper%26state%3D$1.inner" ;;
    esac
    echo "local-overlay://?root=$at/m&lower-store=$below&upper-layer=$upper&state=$1"
}
url=$(url_of $at/state)

drv_of() { echo "${1%%!*}"; }
# Makes the object $2 in the store $1, whose directory is $3, with deriver $4 and the references behind.
make() {
    local store=$1 path=$2 place=$3/${2#/nix/store/} deriver=$4
    shift 4
    printf '%s\n' "content of $path" "$@" >"$place"
    chmod 444 "$place"
    touch -d @1 "$place"
    {
        printf '%s\n' "$path" "$(nix-hash --type sha256 "$place")" "$(nix-store --dump "$place" | wc -c)" \
            "$deriver" $# "$@"
    } | nix-store --store "$store" --load-db
}
outputs() { nix-store --store "$1" --query --outputs "$2" | sort; }

step "a lower store"
cat >/mnt/world.nix <<'END'
rec {
  of = name: more: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // more);
  dep = of "dep" { lib = builtins.toFile "lib" "text"; };
  tool = of "tool" { outputs = [ "out" "dev" ]; inherit dep; also = builtins.toFile "also" "text"; };
  solo = of "solo" { inherit tool; };
  app = of "app" { inherit tool; mine = builtins.toFile "mine" "text"; };
}
END
instantiate() { drv_of "$(nix-instantiate --store "$1" /mnt/world.nix -A "$2" 2>>/mnt/log)"; }
below=local?root=$lower
dep_drv=$(instantiate $below dep)
tool_drv=$(instantiate $below tool)
solo_drv=$(instantiate $below solo)
lib=$(nix-store --store $below -q --references $dep_drv)
dep=$(outputs $below $dep_drv)
dev=$(outputs $below $tool_drv | grep -e '-dev$')
tool=$(outputs $below $tool_drv | grep -v -e '-dev$')
solo=$(outputs $below $solo_drv)
make $below $dep $lower/nix/store $dep_drv $lib
make $below $tool $lower/nix/store $tool_drv $dep $lib $tool
make $below $dev $lower/nix/store $tool_drv $tool
make $below $solo $lower/nix/store $solo_drv $tool $solo
wide=()
for name in a b c d e f g h; do
    path=/nix/store/$(echo $name-$KIND | sha256sum | tr -dc 0-9a-df-np-sv-z | head -c 30)00-$name
    make $below $path $lower/nix/store "" "${wide[@]: -3}" $lib
    wide+=($path)
done
head -c 3000000 /dev/zero >/mnt/large
large=$(nix-store --store $below --add /mnt/large)
nix key generate-secret --key-name first-1 >/mnt/key1
nix key generate-secret --key-name another-1 >/mnt/key2
for key in /mnt/key1 /mnt/key2; do nix store sign --store $below --key-file $key $large $dep; done

step "an overlay store above it ($KIND)"
if [ "$KIND" = daemon ]; then
    NIX_DAEMON_SOCKET_PATH=/mnt/socket nix-daemon --store $below >/mnt/daemon.log 2>&1 &
    started+=($!)
    for _ in $(seq 100); do
        nix store info --store "unix:///mnt/socket?root=$lower" >/mnt/info 2>&1 && break
        sleep 0.05
    done
fi
above=()
if [ "$KIND" = nested ]; then
    inner="local-overlay://?root=$at/inner/m&lower-store=$lower&upper-layer=$at/inner/upper&state=$at/state.inner"
    mkdir -p $at/inner/m/nix/store
    overstore mount "$inner"
    echo inner >/mnt/inner
    above+=($(nix-store --store "$inner" --add /mnt/inner))
    nix-store --store "$inner" --check-validity $dep
fi
overstore mount "$url"
app_drv=$(instantiate "$url" app)
app=$(outputs "$url" $app_drv)
nix-store --store "$url" --check-validity $tool
make "$url" $app $merged $app_drv $tool $app
echo new >/mnt/new
new=$(nix-store --store "$url" --add /mnt/new)
nix store sign --store "$url" --key-file /mnt/key1 $new
ln -s $app $at/state/gcroots/app
ln -s $solo $at/state/gcroots/solo
ln -s ${wide[5]} /mnt/result
mkdir -p $at/state/gcroots/auto
ln -s /mnt/result $at/state/gcroots/auto/some
ln -s /mnt/nowhere $at/state/gcroots/auto/stale
ln -s /nix/store/00000000000000000000000000000000-not-valid $at/state/gcroots/not-valid
above+=($app_drv $app $new)
all=("${above[@]}" $dep_drv $tool_drv $solo_drv $lib $dep $dev $tool $solo $large "${wide[@]}")

# One question a line, as both programs understand it.
questions() {
    local path what
    for what in --references --referrers --requisites --referrers-closure --deriver --valid-derivers \
        --outputs --hash --size --tree --graph --roots "--requisites --include-outputs" -R -d; do
        for path in "$@"; do echo "query $what $path"; done
        echo "query $what $*"
        echo "query $what $app $dep $solo_drv"
    done
    for path in "$@"; do echo "part $(echo ${path#/nix/store/} | cut -c-32)"; done
    local json=()
    # Later ones print a format with a version, and tell to name it.
    [ "$newer" ] || json=(--json "--json -S" "--json -r" "--json -rsSh --sigs")
    for what in "" -s -S -sS -h -sh -sSh -r -rsSh --sigs "-rsSh --sigs" "${json[@]}"; do
        echo "info $what $app $solo"
        echo "info $what $*"
        echo "info $what $large $new"
        echo "info $what $solo_drv"
    done
    if [ "$newer" ]; then
        for what in --json-format\ {1,2}{,\ -S,\ -rS}; do
            echo "info --json $what $app $solo_drv"
            echo "info --json $what $*"
        done
        echo "info --json --json-format 2 $none $app"
        echo "info --json --json-format 1 $app $none"
    else
        echo "info --json $none $app"
    fi
    echo "info $none"
}
none=/nix/store/00000000000000000000000000000000-none
newer=
case $(nix --version) in *" 2.26."*) ;; *) newer=1 ;; esac

# Their answer to one question, or what they say of it; $1 is the URL.
ours() {
    local url=$1 what=$2
    shift 2
    case $what in
        part) overstore query --path-from-hash-part --store "$url" "$@" ;;
        query) overstore query --store "$url" "$@" ;;
        info) overstore path-info --store "$url" "$@" ;;
    esac
}
theirs() {
    local url=$1 what=$2
    shift 2
    case $what in
        part) nix store path-from-hash-part --store "$url" "$@" ;;
        query) nix-store --store "$url" --query "$@" ;;
        info) nix path-info --store "$url" "$@" ;;
    esac
}

# Everything that a query could have changed, of all stores.
manifest() {
    local theirs=/dev/null/*
    # The daemon opens its own database for whoever asks it.
    if [ "$KIND" = daemon ]; then theirs=$lower/nix/var/nix/db/db.sqlite-*; fi
    find $at/state* $upper $at/inner/upper $lower /mnt/result /mnt/conf $HOME \
        ! -path "$theirs" -printf '%y %m %U:%G %T@ %C@ %i %n %s %p -> %l\n' | sort
    find $at/state* $lower/nix/var -type f ! -path "$theirs" -print0 | sort -z | xargs -0 sha256sum
    for db in $at/state*/db/db.sqlite $lower/nix/var/nix/db/db.sqlite; do
        # Read from a copy: sqlite3 would make files beside it.
        cp $db /mnt/db.sqlite
        sqlite3 /mnt/db.sqlite 'SELECT count(*) FROM ValidPaths; SELECT count(*) FROM Refs; SELECT count(*) FROM DerivationOutputs'
        rm -f /mnt/db.sqlite
    done
}
fresh() {
    rm -rf $at/copy $at/copy.inner
    cp -a $at/state $at/copy
    if [ -e $at/state.inner ]; then cp -a $at/state.inner $at/copy.inner; fi
}

ask_ours() {
    local number=0 words suffix=$1
    while read -ra words; do
        number=$((number + 1))
        ours "$url$suffix" "${words[@]}" >$out/$number.ours 2>$out/$number.ours.said && rc=0 || rc=$?
        echo $rc >$out/$number.ours.rc
    done </mnt/questions
    number_of=$number
}
# Nix's answers do not depend on how the store is checked.
ask_theirs() {
    local number=0 words rc
    while read -ra words; do
        number=$((number + 1))
        fresh
        theirs "$(url_of $at/copy)" "${words[@]}" >$out/$number.nix 2>$out/$number.nix.said && rc=0 || rc=$?
        echo $rc >$out/$number.nix.rc
    done </mnt/questions
}
# Nix tells roots in the order of a hash table, and here those of a copy.
as_ours() { sed "s#^$at/copy/#$at/state/#" | sort; }
compare() {
    local number=0 words asked
    wrong=0
    while read -ra words; do
        number=$((number + 1))
        asked="${words[*]}"
        for side in ours nix; do
            case $asked in
                *--roots*) as_ours <$out/$number.$side >$out/$number.$side.cmp ;;
                *) cp $out/$number.$side $out/$number.$side.cmp ;;
            esac
        done
        case $(<$out/$number.ours.rc)-$(<$out/$number.nix.rc) in
            # Nix ends as if all were well where it prints null.
            1-0)
                grep -q -- --json <<<"$asked" && cmp $out/$number.{ours,nix}.cmp && grep -q null $out/$number.ours && continue
                ;;
            0-0 | 1-1) cmp $out/$number.{ours,nix}.cmp && continue ;;
            # Nix asks its upper database alone for the outputs of a derivation. Asked again once the
            # row is copied up, it has an answer.
            0-1) case $asked in
                "query --roots "* | "query --requisites --include-outputs "*)
                    grep -q 'is not valid' $out/$number.nix.said
                    fresh
                    nix-store --store "$(url_of $at/copy)" --check-validity "${all[@]}"
                    theirs "$(url_of $at/copy)" "${words[@]}" >$out/$number.nix 2>>/mnt/log
                    case $asked in
                        *--roots*) as_ours <$out/$number.nix >$out/$number.nix.cmp ;;
                        *) cp $out/$number.nix $out/$number.nix.cmp ;;
                    esac
                    cmp $out/$number.{ours,nix}.cmp && mended=$((mended + 1)) && continue
                    ;;
            esac ;;
        esac
        echo "DIFFERENT: $asked"
        head -c 1500 $out/$number.{ours,nix}{.rc,.said,}
        wrong=$((wrong + 1))
        [ $wrong -lt 8 ] || exit 1
    done </mnt/questions
    same $wrong 0 "questions with different answers"
}

step "a process that uses an object, and one that keeps one"
USES=${wide[3]} sleep 1000 &
started+=($!)
# Without a mount the files are where they were.
if [ "$KIND" = local ]; then questions "${all[@]}"; else questions $app $tool_drv $dep $solo_drv ${wide[7]}; fi >/mnt/questions
for suffix in "" "&check-mount=false"; do
    step "overstore answers, and nothing changes ($suffix)"
    manifest >/mnt/before
    ask_ours "$suffix"
    manifest >/mnt/after
    cmp /mnt/before /mnt/after || { diff /mnt/before /mnt/after; die "something was changed"; }
    if [ "$suffix" = "" ]; then
        step "Nix answers the same"
        ask_theirs
    fi
    mended=0
    compare
    echo "$number_of questions, $mended of which Nix answers only after it copied rows"
    [ $mended -gt 0 ] || die "Nix asks the lower for outputs, too: say so in the documentation"
done

step "temporary roots"
for state in $at/state $at/temp; do
    [ -e $state ] || cp -a $at/state $at/temp
    printf '%s\0' $dep $new >$state/temproots/4000000
    printf '%s\0' $lib >$state/temproots/4000001
    flock --no-fork $state/temproots/4000000 sleep 1000 &
    started+=($!)
    until ! flock --nonblock $state/temproots/4000000 true; do sleep 0.02; done
done
manifest >/mnt/before
overstore query --store "$url" --roots $dep $new | sort >/mnt/ours
manifest >/mnt/after
cmp /mnt/before /mnt/after || die "something was changed"
if [ "$KIND" = nested ]; then cp -a $at/state.inner $at/temp.inner; fi
nix-store --store "$(url_of $at/temp)" --query --roots $dep $new 2>>/mnt/log | sed "s#^$at/temp/#$at/state/#" | sort >/mnt/theirs
cmp /mnt/ours /mnt/theirs || { cat /mnt/ours /mnt/theirs; die "other temporary roots"; }
grep -qFx "{temp:4000000} -> $new" /mnt/ours

step "every object of both halves"
printf '%s\n' "${all[@]}" | sort -u >/mnt/expected
overstore path-info --store "$url" --all | sort >/mnt/ours
comm -23 /mnt/expected /mnt/ours >/mnt/missing
same "$(cat /mnt/missing)" "" "not listed"

step "a plain user, who may only read"
manifest >/mnt/before
setpriv --reuid=nobody --regid=nogroup --clear-groups \
    overstore query --store "$url" --requisites --include-outputs $app $solo_drv >/mnt/ours
setpriv --reuid=nobody --regid=nogroup --clear-groups \
    overstore path-info --store "$url" -rsS $app >/mnt/info
manifest >/mnt/after
cmp /mnt/before /mnt/after || { diff /mnt/before /mnt/after; die "something was changed"; }
overstore query --store "$url" --requisites --include-outputs $app $solo_drv | cmp - /mnt/ours
overstore path-info --store "$url" -rsS $app | cmp - /mnt/info

step "without an upper database"
overstore umount $merged
rm -rf $at/state
overstore query --store "$url" --requisites $solo >/mnt/ours
nix-store --store local?root=$lower --query --requisites $solo | cmp - /mnt/ours
[ ! -e $at/state ] || die "a state directory was made"
if [ "$KIND" = nested ]; then overstore umount $at/inner/m/nix/store; fi
