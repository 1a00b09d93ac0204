# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the commands that it reads, one a line, inside a root folder; each answer ends with its code.
export HOME=/mnt/home NIX_CONF_DIR=/mnt/conf LC_ALL=C
mkdir -p $HOME $NIX_CONF_DIR /mnt/src/tools/bin
cp /bin/busybox /mnt/src/tools/bin/
for name in sh mkdir cat cp mv rm ln chmod sort cut printf ls; do
    ln -s busybox /mnt/src/tools/bin/$name
done
cat >$NIX_CONF_DIR/nix.conf <<-END
	experimental-features = nix-command
	build-users-group =
	sandbox = true
	sandbox-fallback = false
	substituters =
	END
lower="local?root=/mnt/lower"
store() { nix-store --store "$lower" "$@"; }

# Serves the lower store, and returns once it answers.
start_daemon() {
    rm -f /mnt/socket
    NIX_DAEMON_SOCKET_PATH=/mnt/socket nix-daemon --store "$lower" >/mnt/daemon.log 2>&1 &
    echo $! >/mnt/daemon.pid
    for _ in $(seq 100); do
        if nix store info --store "unix:///mnt/socket?root=/mnt/lower" >/mnt/info.log 2>&1; then return 0; fi
        sleep 0.05
    done
    cat /mnt/daemon.log /mnt/info.log
    return 1
}
# Whether a daemon runs that has not just ended.
alive() {
    local pid
    for pid in $(pidof nix-daemon); do
        grep -q '^State:.*Z' /proc/$pid/status || return 0
    done
    return 1
}
# Ends it, with the processes that serve its clients: those block SIGTERM, which is for a thread
# that only the process has from which they were forked, and end with their client otherwise.
end_daemon() {
    local main=$(cat /mnt/daemon.pid)
    kill -TERM "$main"
    for _ in $(seq 100); do
        grep -qs '^State:.*[^Z] (' /proc/$main/status || break
        sleep 0.05
    done
    ! grep -s '^State:.*[^Z] (' /proc/$main/status
    kill -KILL $(pidof nix-daemon) 2>/dev/null || true
    for _ in $(seq 100); do
        alive || return 0
        sleep 0.05
    done
    return 1
}

while IFS= read -r line; do
    (
        set -eo pipefail
        eval "$line"
    ) 2>&1 </dev/null
    echo "@@ $?"
done
