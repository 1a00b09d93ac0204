# SPDX-License-Identifier: MIT OR Apache-2.0
# The benchmarks of scripts/bench-store, inside a root folder with real Nix; everything is in /mnt.
# Each is a store made anew (not measured), one operation of each program by turns, and its check.
set -euo pipefail

lower=/mnt/lower upper=/mnt/upper root=/mnt/m state=/mnt/state src=/mnt/src
merged=$root/nix/store
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf NIX_SHOW_STATS=0
url="local-overlay://?root=$root&lower-store=$lower?read-only=true&upper-layer=$upper&state=$state"
export OVERSTORE_STORE=$url
mkdir -p $HOME $NIX_CONF_DIR
cat >$NIX_CONF_DIR/nix.conf <<-END
	experimental-features = nix-command local-overlay-store read-only-local-store
	build-users-group =
	substituters =
	require-sigs = false
END

# Writes the rows and files of NUMBER text objects into a store directory and a registration file:
# names count up, and each object refers to the one before it in its chain of LENGTH.
make_objects() { # PREFIX NUMBER LENGTH STORE_DIRECTORY >REGISTRATION
    mkdir -p "$4"
    PREFIX=$1 NUMBER=$2 LENGTH=$3 STORE=$4 perl -we '
        use strict; use Digest::SHA qw(sha256_hex);
        my ($prefix, $number, $length, $store) = @ENV{qw(PREFIX NUMBER LENGTH STORE)};
        my ($before, $text) = ("", "");
        my $pad = sub { my $s = shift; pack("Q<", length $s) . $s . "\0" x (-length($s) % 8) };
        for my $n (1 .. $number) {
            my $digits = sprintf("%s%031d", $prefix, $n); $digits =~ tr/etou/abcd/;
            my $path = "/nix/store/$digits-bench";
            my $content = "$path\n" . ($n % $length == 1 || $length == 1 ? "" : "$before\n");
            my $file = "$store/$digits-bench";
            open my $out, ">", $file or die "$file: $!"; print $out $content; close $out or die $!;
            chmod 0444, $file; utime 1, 1, $file;
            my $nar = join "", map { $pad->($_) } "nix-archive-1", "(", "type", "regular", "contents", $content, ")";
            my @refs = $content =~ /^(?!\Q$path\E)(\/nix\/store\S+)/mg;
            print join("\n", $path, sha256_hex($nar), length $nar, "", scalar @refs, @refs), "\n";
            $before = $path;
        }'
}

clean() {
    if mountpoint -q "$merged" 2>/dev/null; then overstore umount "$merged"; fi
    rm -rf --one-file-system $lower $upper $root $state $src
    mkdir -p $lower/nix/store $upper $merged $src
    sync
}
mount_view() {
    nix-store --store "local?root=$lower" --load-db </mnt/lower.reg 2>/dev/null
    overstore mount "$url"
    if [ -s /mnt/upper.reg ]; then nix-store --store "$url" --load-db </mnt/upper.reg; fi
    sync
}

# Runs a command and writes how many milliseconds it took to file NAME.
timed() { # NAME COMMAND...
    local name=$1 begun
    shift
    begun=${EPOCHREALTIME/.}
    "$@" >/mnt/out 2>/mnt/err || { cat /mnt/err >&2; exit 1; }
    echo $(((${EPOCHREALTIME/.} - begun) / 100)) >>"/mnt/times.$name"
}
# Tells median, least and most of the times of NAME in milliseconds.
told() { sort -n "/mnt/times.$1" | awk '{ t[NR] = $1 / 10 } END { m = t[int((NR + 1) / 2)];
    printf "%.1f ms (%.1f to %.1f, %d times)", m, t[1], t[NR], NR }'; }
median() { sort -n "/mnt/times.$1" | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'; }
result() { # BENCHMARK
    echo "$1: nix $(told nix), overstore $(told overstore), ratio" \
        "$(awk -v a="$(median nix)" -v b="$(median overstore)" 'BEGIN { printf "%.2f", a / b }')"
}
# Does SETUP and then RUN with each program by turns, ROUNDS times.
compared() { # BENCHMARK SETUP RUN
    rm -f /mnt/times.*
    for _ in $(seq "$ROUNDS"); do
        for program in nix overstore; do
            "$2"
            "$3" "$program"
        done
    done
    result "$1"
    clean
}

path_info_setup() {
    clean
    make_objects 1 $((2000 / SCALE)) $((2000 / SCALE)) $lower/nix/store >/mnt/lower.reg
    : >/mnt/upper.reg
    last=$(tail -n5 /mnt/lower.reg | grep -m1 ^/nix/store)
    mount_view
}
path_info_run() {
    case $1 in
        nix) timed nix nix path-info -r --store "$url" "$last" ;;
        overstore) timed overstore overstore path-info -r "$last" ;;
    esac
    [ "$(wc -l </mnt/out)" = $((2000 / SCALE)) ]
}

gc_setup() {
    clean
    make_objects 2 $((100000 / SCALE)) 10 $lower/nix/store >/mnt/lower.reg
    make_objects 3 $((1000 / SCALE)) 10 $upper >/mnt/upper.reg
    mount_view
}
gc_run() {
    case $1 in
        nix) timed nix nix-store --store "$url" --gc ;;
        overstore) timed overstore overstore gc ;;
    esac
    [ "$(find $upper -mindepth 1 -maxdepth 1 ! -name .links | wc -l)" = 0 ]
    [ "$(find $lower/nix/store -type f | wc -l)" = $((100000 / SCALE)) ]
}

# Objects of 50 MB, made once: hashing them is all that is measured.
verify_setup() {
    if [ -e /mnt/verify-ready ]; then return; fi
    clean
    : >/mnt/lower.reg >/mnt/upper.reg
    mount_view
    for n in $(seq $((100 / SCALE))); do
        head -c 50000000 /dev/urandom >$src/$n
        nix-store --store "$url" --add $src/$n >/dev/null
        rm $src/$n
    done
    : >/mnt/verify-ready
}
verify_run() {
    case $1 in
        nix) timed nix nix-store --store "$url" --verify --check-contents ;;
        overstore) timed overstore overstore verify --check-contents ;;
    esac
}

add_setup() {
    clean
    : >/mnt/lower.reg >/mnt/upper.reg
    mount_view
    for n in $(seq $((10000 / SCALE))); do
        dir=$src/tree/$((n % 100))
        [ -d "$dir" ] || mkdir -p "$dir"
        echo "file $n" >"$dir/$n"
    done
}
add_run() {
    case $1 in
        nix) timed nix nix-store --store "$url" --add $src/tree ;;
        overstore) timed overstore overstore add $src/tree ;;
    esac
    [ "$(find "$upper" -type f ! -path '*/.links/*' | wc -l)" -ge $((10000 / SCALE)) ]
}

nix --version
overstore --version
for benchmark in "$@"; do
    case $benchmark in
        path-info) compared "path-info -r, closure of $((2000 / SCALE))" path_info_setup path_info_run ;;
        gc) compared "gc of $((1000 / SCALE)) over $((100000 / SCALE))" gc_setup gc_run ;;
        verify) compared "verify of $((5000 / SCALE)) MB" verify_setup verify_run && rm /mnt/verify-ready ;;
        add) compared "add of $((10000 / SCALE)) files" add_setup add_run ;;
        *) echo "no such benchmark: $benchmark" >&2; exit 2 ;;
    esac
done
