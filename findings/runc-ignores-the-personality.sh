#!/usr/bin/env bash
# Behaviour: runc does nothing with `linux.personality`, and says nothing: a container that asks for
#   LINUX32 runs as LINUX.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1 and busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: runtime specification 1.0.2, which this runc names as its own: `personality` "sets the
#   Linux execution personality", with the domains LINUX and LINUX32; and the process is as asked
#   for, or there is an error.
# Seen: LINUX32: x86_64, status 0, no warning; `setarch i686 uname -m`: i686
# Here: a guest is no OS process, the shims have no personality to set, and docs/config-json.md says
#   so; what works under runc may not have been what was asked for.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download runc=1.1.5+ds1-1+deb12u1 \
    busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
runc=(debian/usr/sbin/runc --root "$dir/state")
mkdir -p bundle/rootfs/bin
cp debian/bin/busybox bundle/rootfs/bin/
"${runc[@]}" spec --bundle bundle

# machine_with DOMAIN: what a container with it says that the machine is.
machine_with() {
    python3 - "$1" <<'PY'
import json, os, sys

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "uname", "-m"]
config["linux"]["cgroupsPath"] = "/" + os.path.basename(os.getcwd())
config["linux"]["personality"] = {"domain": sys.argv[1]}
json.dump(config, open(path, "w"))
PY
    "${runc[@]}" run --bundle bundle "findings-$$" 2>&1 || changed "the container fails"
}
version=$("${runc[@]}" --version | sed -n 's/^spec: //p')
small=$(machine_with LINUX32)
large=$(machine_with LINUX)
kernel=$(setarch i686 debian/bin/busybox uname -m)
echo "of specification $version; LINUX32: $small; LINUX: $large; setarch i686: $kernel"
[[ $version == 1.0.2-dev ]] || changed "another specification"
[[ $large == x86_64 ]] || changed "the container with LINUX has another"
[[ $kernel == i686 ]] || changed "the kernel has no such personality"
[[ $small == x86_64 ]] || changed "the container has the personality"
