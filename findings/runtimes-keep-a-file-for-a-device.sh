#!/usr/bin/env bash
# Behaviour: where the root file system has a regular file or another device at the path of a
#   device of `linux.devices`, runc and crun leave it there and start the container.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1, crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: an error. Runtime specification, config-linux, Devices: "If a file already exists at
#   path that does not match the requested device, the runtime MUST generate an error."
# Seen: char device 1:5 (zero) wanted; a file there: "regular file", a device 1:3: "character
#   special file 1:3"; nothing there: "character special file 1:5"; all with runc and with crun,
#   status 0
# Here: a container whose image has such a file starts without the device that it was to have, and
#   nothing tells of it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download crun=1.8.1-1+deb12u1 libyajl2=2.1.0-3+deb12u2 \
    runc=1.1.5+ds1-1+deb12u1 busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu
mkdir -p bundle/rootfs/bin bundle/rootfs/devices
cp debian/bin/busybox bundle/rootfs/bin/
debian/usr/sbin/runc spec --bundle bundle
python3 - <<'PY'
import json

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
show = ["/bin/busybox", "stat", "-c", "%F %t:%T", "/devices/zero"]
config["process"]["args"] = show
config["root"]["readonly"] = False
config["linux"].pop("resources", None)
config["linux"]["devices"] = [{"path": "/devices/zero", "type": "c", "major": 1, "minor": 5}]
json.dump(config, open(path, "w"))
PY
cat >play.sh <<'PLAY'
# crun takes no host that has the second cgroup hierarchy beside the first one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
debian/usr/"$1" --root "$PWD/state" run --bundle bundle findings-$$ </dev/null
PLAY

# sees WANT COMMAND...: whether containers of both see this where the command has put a file.
sees() {
    local got runtime
    for runtime in bin/crun sbin/runc; do
        rm -f bundle/rootfs/devices/zero
        "${@:2}"
        got=$(unshare --mount bash -euo pipefail play.sh $runtime)
        echo "${runtime#*/} after ${*:2}: $got"
        [[ $got == "$1" ]] || changed "$got"
    done
}
sees 'character special file 1:5' true
sees 'regular file 0:0' cp play.sh bundle/rootfs/devices/zero
sees 'character special file 1:3' mknod bundle/rootfs/devices/zero c 1 3
