#!/usr/bin/env bash
# Behaviour: runc gives a tmpfs the mode of the folder below it, even with the option `mode`.
#   Without a folder the mode is 1777, and runc makes one with 755: at the second start of a
#   container on the same root file system only root may write to its tmpfs. With crun it is 1777
#   always.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1, crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm); util-linux 2.38.
# Expected: 1777 at each start, as mount(8) makes it, or what `mode` says: in the runtime
#   specification a mount's options are those of mount(8), and the two starts have the same
#   configuration.
# Seen: mount drwxrwxrwt; crun drwxrwxrwt and user 1000 writes, twice; runc first so, then
#   drwxr-xr-x and user 1000 may not, with mode=1777 neither
# Here: an image with a user of its own that writes to a tmpfs works at first, and not after a
#   restart on the same bundle. An image that has the folder itself with the mode that it wants
#   works always.
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
chmod 755 .
mkdir -p bundle/rootfs/bin
cp debian/bin/busybox bundle/rootfs/bin/
debian/usr/sbin/runc spec --bundle bundle
cat >bundle/rootfs/program <<'PROGRAM'
cd /work
set -- $(/bin/busybox ls -ld .)
if 2>/dev/null >file; then echo "$1, written"; else echo "$1, not written"; fi
PROGRAM
cat >edit.py <<'PY'
import json
import sys

path = "bundle/config.json"
config = json.load(open(path))
process = config["process"]
process["terminal"] = False
process["args"] = ["/bin/busybox", "sh", "/program"]
process["user"] = {"uid": 1000, "gid": 1000}
config["root"]["readonly"] = False
config["linux"].pop("resources", None)
others = [mount for mount in config["mounts"] if mount["destination"] != "/work"]
mount = {"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": sys.argv[1:]}
config["mounts"] = [*others, mount]
json.dump(config, open(path, "w"))
PY
cat >play.sh <<'PLAY'
# crun takes no host that has the second cgroup hierarchy beside the first one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
debian/usr/"$1" --root "$PWD/state" run --bundle bundle findings-$$ </dev/null
PLAY

# sees COMMAND WANT OPTION...: whether a container of the runtime sees such a tmpfs.
sees() {
    local got
    python3 edit.py "${@:3}"
    got=$(unshare --mount bash -euo pipefail play.sh "$1")
    echo "${1#*/}${3:+ $3}: $got"
    [[ $got == "$2" ]] || changed "$got"
}
mkdir plain
got=$(unshare --mount sh -c 'mount -t tmpfs tmpfs plain && stat -c %A plain')
echo "mount: $got"
[[ $got == drwxrwxrwt ]] || changed "mount makes $got"
for start in 1 2; do sees bin/crun 'drwxrwxrwt, written'; done
rmdir bundle/rootfs/work
sees sbin/runc 'drwxrwxrwt, written'
sees sbin/runc 'drwxr-xr-x, not written'
sees sbin/runc 'drwxr-xr-x, not written' mode=1777
chmod 1777 bundle/rootfs/work
sees sbin/runc 'drwxrwxrwt, written'
