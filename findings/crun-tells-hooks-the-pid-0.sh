#!/usr/bin/env bash
# Behaviour: crun tells hooks that run in the container (createContainer, startContainer) that its
#   process has the number 0, and startContainer hooks that the container is "starting", in the
#   bundle "/". createRuntime hooks are told that it is created.
# Versions: Debian crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2, runc 1.1.5+ds1-1+deb12u1,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification, State: `pid` is required, for such hooks as the container
#   sees it, `bundle` is the absolute path of the bundle, and `status` is creating, created, running
#   or stopped, others being for states that these are not; config, Hooks: startContainer hooks are
#   called before the user's program is.
# Seen: createContainer: runc pid 1, creating; crun pid 0, created; startContainer: runc pid 1,
#   created, the bundle; crun pid 0, starting, "/"
# Here: a hook that signals the process means by 0 its own group, and one that waits for a state of
#   the specification takes "starting" for an error. The shims refuse these two kinds of hooks.
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
mkdir -p bundle/rootfs/bin bundle/rootfs/said
cp debian/bin/busybox bundle/rootfs/bin/
debian/usr/sbin/runc spec --bundle bundle
# Hooks write the state that they read into a file of their name.
for point in createRuntime createContainer startContainer; do
    printf '#!/bin/busybox sh\nexec /bin/busybox cat >/said/%s\n' $point >bundle/rootfs/$point
    printf '#!/bin/sh\nexec cat >%s/bundle/rootfs/said/%s\n' "$dir" $point >$point
    chmod +x bundle/rootfs/$point $point
done
python3 - <<'PY'
import json, os

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "true"]
config["root"]["readonly"] = False
config["linux"].pop("resources", None)
config["hooks"] = {
    "createRuntime": [{"path": os.path.abspath("createRuntime")}],
    "createContainer": [{"path": os.path.abspath("createContainer")}],
    "startContainer": [{"path": "/startContainer"}],
}
json.dump(config, open(path, "w"))
PY
cat >play.sh <<'PLAY'
# crun takes no host that has the second cgroup hierarchy beside the first one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
"debian/usr/$1" --root "$PWD/state" run --bundle bundle "findings-$$"
PLAY
cat >show.py <<'PY'
import json, os, sys

for point in "createRuntime", "createContainer", "startContainer":
    with open(f"bundle/rootfs/said/{point}") as file:
        state = json.load(file)
    pid = "a process" if state["pid"] > 1 else state["pid"]
    bundle = "the bundle" if state["bundle"] == os.path.abspath("bundle") else state["bundle"]
    print(f"{point}: {sys.argv[1]} pid {pid}, {state['status']}, {bundle}")
PY
seen=$(
    for runtime in sbin/runc bin/crun; do
        rm -f bundle/rootfs/said/*
        unshare --mount bash -euo pipefail play.sh $runtime >&2
        python3 show.py "${runtime#*/}"
    done | sort
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
createContainer: crun pid 0, created, the bundle
createContainer: runc pid 1, creating, the bundle
createRuntime: crun pid a process, created, the bundle
createRuntime: runc pid a process, creating, the bundle
startContainer: crun pid 0, starting, /
startContainer: runc pid 1, created, the bundle
SEEN
)
[[ $seen == "$wanted" ]] || changed "hooks are told otherwise"
