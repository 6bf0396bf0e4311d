#!/usr/bin/env bash
# Behaviour: containerd looks a shim up in its PATH once. After the program has moved to another
#   directory of the PATH, as from /usr/local/bin to a package's /usr/bin, containers of this runtime
#   cannot be started until containerd is restarted.
# Versions: Debian containerd 1.6.20~ds1-1+deb12u3, runc 1.1.5+ds1-1+deb12u1 and busybox-static
#   1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the program is looked for again if it is no longer there.
# Seen: status 0; after the move "fork/exec …/first/containerd-shim-moved-v1: no such file or
#   directory"; after a restart of containerd status 0
# Here: whoever changes from `make install` to the packages restarts containerd (docs/operate.md).
set -euo pipefail
dir=$(mktemp -d)
pid=
finish() {
    if [[ -n $pid ]]; then kill "$pid" && wait "$pid"; fi 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containerd='1.6.20~ds1-1+deb12u3' \
    runc=1.1.5+ds1-1+deb12u1 busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
mkdir -p first second rootfs/bin
cp debian/bin/busybox rootfs/bin/
# Any shim will do: this one does not look at its own name.
cp debian/usr/bin/containerd-shim-runc-v2 first/containerd-shim-moved-v1
cat >containerd.toml <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$dir/containerd.sock"
[ttrpc]
address = "$dir/ttrpc.sock"
TOML
ctr=(debian/usr/bin/ctr --address "$dir/containerd.sock")
start() {
    PATH=$dir/first:$dir/second:$dir/debian/usr/sbin:$PATH \
        debian/usr/bin/containerd --config containerd.toml >log 2>&1 &
    pid=$!
    for _ in {1..100}; do
        if "${ctr[@]}" version >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
}
run() {
    "${ctr[@]}" run --rm --runtime io.containerd.moved.v1 --rootfs "$dir/rootfs" "$1" \
        /bin/busybox true 2>&1
}

start
said=$(run before) || changed "it does not run at all: $said"
echo "before the move: status 0"
mv first/containerd-shim-moved-v1 second/
if said=$(run after); then changed "it is found in the other directory"; fi
echo "after the move: ${said##*: start failed: }"
[[ $said == *first/containerd-shim-moved-v1*'no such file or directory'* ]] ||
    changed "another error: $said"
"${ctr[@]}" container delete after 2>/dev/null || true
kill "$pid"
wait "$pid" || true
start
said=$(run restarted) || changed "a restart is no help: $said"
echo "after a restart of containerd: status 0"
