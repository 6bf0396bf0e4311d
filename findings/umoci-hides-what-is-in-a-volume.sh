#!/usr/bin/env bash
# Behaviour: of each volume of an image umoci makes an empty tmpfs without exec in the bundle: what the
#   image has there is gone in the container, and what is written there is memory.
# Versions: Debian umoci 0.4.7+ds-3+b7, runc 1.1.5+ds1-1+deb12u1, busybox-static 1:1.35.0-4+deb12u1+b1
#   (bookworm).
# Expected: the image's data. Dockerfile reference, VOLUME: a new volume is initialized "with any data
#   that exists at the specified location within the base image"; OCI image-spec, Conversion,
#   Config.Volumes, wants a mount, so that data are not written into the root, and lets it be seeded so.
# Seen: an image with /data/hello and the volume /data: the bundle has a tmpfs with noexec at /data, and
#   `cat /data/hello` of the container says "No such file or directory"; without the volume "hi"
# Here: a program that is in a volume of its image, a module too, is not there when the shims are given
#   a bundle of umoci; containerd leaves volumes to its client, and nerdctl and the CRI copy the data.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download umoci=0.4.7+ds-3+b7 runc=1.1.5+ds1-1+deb12u1 \
    busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
umoci=debian/usr/bin/umoci
mkdir data
echo hi >data/hello
"$umoci" init --layout layout
"$umoci" new --image layout:plain
"$umoci" insert --image layout:plain debian/bin/busybox /bin/busybox
"$umoci" insert --image layout:plain data /data
"$umoci" config --image layout:plain --config.cmd /bin/busybox --config.cmd cat --config.cmd /data/hello
"$umoci" config --image layout:plain --tag volume --config.volume /data
cat >run.py <<'PY'
import json, os, subprocess, sys

bundle = sys.argv[1]
config = json.load(open(f"{bundle}/config.json"))
mounts = [mount for mount in config["mounts"] if mount["destination"] == "/data"]
print(f"{bundle}: mounts:", *[f"{mount['type']} {','.join(mount['options'])}" for mount in mounts])
config["process"]["terminal"] = False
config["linux"].pop("resources", None)
json.dump(config, open(f"{bundle}/config.json", "w"))
name = f"findings-{os.getpid()}"
command = ["debian/usr/sbin/runc", "--root", "state", "run", "--bundle", bundle, name]
said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
print(f"{bundle}: {said.returncode} {said.stdout}{said.stderr}".strip())
PY
for tag in plain volume; do
    "$umoci" unpack --image layout:$tag $tag 2>messages
    unshare --mount python3 run.py $tag
done | tee seen
cmp seen - <<'SEEN' || changed "other bundles"
plain: mounts:
plain: 0 hi
volume: mounts: tmpfs rw,nosuid,nodev,noexec,relatime
volume: 1 cat: can't open '/data/hello': No such file or directory
SEEN
