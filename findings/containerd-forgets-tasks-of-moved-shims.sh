#!/usr/bin/env bash
# Behaviour: a restart of containerd takes each running task away whose shim program is no longer where
#   it was started from: `ctr tasks ls` is empty, the task's bundle is deleted, and its processes run on
#   with no owner. Nothing tells it but a line of the log.
# Versions: Debian containerd 1.6.20~ds1-1+deb12u3, runc 1.1.5+ds1-1+deb12u1 and busybox-static
#   1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the shim runs and answers at its socket, which containerd knows; without a move the same
#   restart finds the task again.
# Seen: moved: no task, no bundle, the shim and the program run; stayed: the task is RUNNING
# Here: docs/operate.md says to delete the pods before the packages or `make uninstall` take the
#   shims away.
set -euo pipefail
dir=$(mktemp -d)
pid=
# The pids of the programs in $dir.
ours() {
    local exe
    for exe in /proc/[0-9]*/exe; do
        if [[ $(readlink "$exe") == "$dir"/* ]]; then basename "$(dirname "$exe")"; fi
    done
}
# What is left is ended here, since nothing else would.
finish() {
    # shellcheck disable=SC2046 # Pids.
    kill -9 $(ours) ${guest:+"$guest"} || true
    wait || true
    umount "$dir"/state/*/*/*/rootfs || true
    # Its cgroup has no owner, either.
    sleep 0.2
    find /sys/fs/cgroup -depth -type d -path '*/default/sleeper' -exec rmdir {} + || true
    rm -rf "$dir"
}
trap "finish 2>/dev/null" EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containerd='1.6.20~ds1-1+deb12u3' \
    runc=1.1.5+ds1-1+deb12u1 busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
mkdir -p shims rootfs/bin
cp debian/bin/busybox rootfs/bin/
cp debian/usr/bin/containerd-shim-runc-v2 shims/containerd-shim-there-v1
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
    PATH=$dir/shims:$dir/debian/usr/sbin:$PATH \
        debian/usr/bin/containerd --config containerd.toml >>log 2>&1 &
    pid=$!
    for _ in {1..100}; do
        if "${ctr[@]}" version >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
}
restart() {
    kill "$pid"
    wait "$pid" || true
    start
}
# state: that of the task, as a new client sees it.
state() { "${ctr[@]}" tasks ls | awk '$1 == "sleeper" { print $3 }'; }

start
"${ctr[@]}" run --detach --runtime io.containerd.there.v1 --rootfs "$dir/rootfs" sleeper \
    /bin/busybox sleep 600
guest=$("${ctr[@]}" tasks ls | awk '$1 == "sleeper" { print $2 }')
restart
echo "stayed: $(state)"
[[ $(state) == RUNNING ]] || changed "the task is lost without a move"
mv shims moved
restart
tasks=$(state)
bundle=$dir/state/io.containerd.runtime.v2.task/default/sleeper
shim=$(for shim in $(ours); do readlink "/proc/$shim/exe"; done | grep -c containerd-shim-there) || true
program=$(tr '\0' ' ' <"/proc/$guest/cmdline") || program=
echo "moved: tasks '$tasks', bundle $(test -e "$bundle" && echo there || echo gone), shims $shim, program $program"
[[ -z $tasks && ! -e $bundle ]] || changed "the task is known"
[[ $shim -eq 1 && $program == *'sleep 600 ' ]] || changed "its processes have ended"
