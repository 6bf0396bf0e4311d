#!/usr/bin/env bash
# Behaviour: a logging program (binary:// URI) of an exec process gets the identifier of the exec
#   as CONTAINER_ID from containerd's shim for runc. Nothing tells it which container the output
#   is of.
# Versions: Debian containerd 1.6.20~ds1-1+deb12u3, runc 1.1.5+ds1-1+deb12u1 and busybox-static
#   1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: containerd's documentation of runtime v2, Logging: the program gets the container's
#   namespace and identifier, which its example makes the journal's SYSLOG_IDENTIFIER of.
# Seen: the container's process: CONTAINER_ID is the container's; an exec "probe": it is "probe"
# Here: the shims give the container's to both, so that the output of a probe is found with its
#   pod's.
set -euo pipefail
dir=$(mktemp -d)
name=findings-${dir##*.}
guest=
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
    # Its cgroup and runc's state have no owner, either.
    sleep 0.2
    find /sys/fs/cgroup -depth -type d -path "*/default/$name" -exec rmdir {} + || true
    rm -rf "/run/containerd/runc/default/$name" "$dir"
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
mkdir -p rootfs/bin logs
cp debian/bin/busybox rootfs/bin/
# It says that it is ready by closing 5, and gets stdout at 3.
cat >take-output <<'LOGGER'
#!/bin/bash
exec 5>&-
read -r output <&3
echo "'$output' of $CONTAINER_ID in $CONTAINER_NAMESPACE" >"$2/$output"
exec cat <&3
LOGGER
chmod +x take-output
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
PATH=$dir/debian/usr/bin:$dir/debian/usr/sbin:$PATH \
    debian/usr/bin/containerd --config containerd.toml >>log 2>&1 &
for _ in {1..100}; do
    if "${ctr[@]}" version >/dev/null 2>&1; then break; fi
    sleep 0.1
done
uri="binary://$dir/take-output?to=$dir/logs"
"${ctr[@]}" run --detach --log-uri "$uri" --rootfs "$dir/rootfs" "$name" \
    /bin/busybox sh -c 'echo first; exec /bin/busybox sleep 600'
guest=$("${ctr[@]}" tasks ls | awk -v "name=$name" '$1 == name { print $2 }')
"${ctr[@]}" tasks exec --detach --exec-id probe --log-uri "$uri" "$name" /bin/busybox echo second
for _ in {1..50}; do
    if [[ -s logs/first && -s logs/second ]]; then break; fi
    sleep 0.1
done
seen=$(cat logs/first logs/second)
echo "$seen"
wanted="'first' of $name in default
'second' of probe in default"
[[ $seen == "$wanted" ]] || changed "loggers are told otherwise"
