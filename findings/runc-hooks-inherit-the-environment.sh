#!/usr/bin/env bash
# Behaviour: a hook without `env` in config.json gets the whole environment of the runc command that
#   runs it, which in a cluster is that of the shim, which is that of containerd.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1 and busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: an empty environment, as the hook gets with `"env": []`, and as a container's process
#   without `env` has.
# Seen: no env: the hook sees MARK=of-the-caller; "env": [] and "env": ["OWN=1"]: it does not
# Here: the shims run hooks with what `env` says alone; a hook that works under runc may rely on
#   PATH or HOME by accident.
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

# seen_with ENV: what of MARK and OWN a hook sees, ENV being its JSON.
seen_with() {
    rm -f seen
    python3 - "$1" <<'PY'
import json, os, sys

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "true"]
config["linux"]["cgroupsPath"] = "/" + os.path.basename(os.getcwd())
hook = {"path": "/bin/sh", "args": ["sh", "-c", f"env >{os.getcwd()}/seen"]}
if sys.argv[1] != "absent":
    hook["env"] = json.loads(sys.argv[1])
config["hooks"] = {"createRuntime": [hook]}
json.dump(config, open(path, "w"))
PY
    MARK=of-the-caller "${runc[@]}" run --bundle bundle "findings-$$" ||
        changed "the container fails"
    sed -n '/^MARK=\|^OWN=/p' seen | xargs
}
absent=$(seen_with absent)
empty=$(seen_with '[]')
own=$(seen_with '["OWN=1"]')
echo "no env: $absent; []: ${empty:-neither}; [\"OWN=1\"]: $own"
[[ $absent == MARK=of-the-caller ]] || changed "another environment without env"
[[ -z $empty ]] || changed "another environment with an empty one"
[[ $own == OWN=1 ]] || changed "another environment with one entry"
