#!/usr/bin/env bash
# Behaviour: the state that crun writes to its hooks has the version "1.0", which is no version of
#   the runtime specification and no semantic one; `crun state` of the same container says 1.0.0.
# Versions: Debian crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2, runc 1.1.5+ds1-1+deb12u1,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm), npm semver 7.7.2.
# Expected: the runtime specification, State: `ociVersion` is the version that the state complies
#   with, hooks get this state, and its versions are semantic ones (1.0.0, 1.0.1, 1.0.2).
# Seen: runc: hooks 1.0.2-dev, state 1.0.2-dev; crun: hooks 1.0, not valid, state 1.0.0
# Here: a hook that parses the version works under runc and fails under crun, and the creation of
#   the container with it. Hooks of the shims are told 1.2.0.
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
npm install --silent --no-audit --no-fund --ignore-scripts semver@7.7.2
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu
mkdir -p bundle/rootfs/bin
cp debian/bin/busybox bundle/rootfs/bin/
debian/usr/sbin/runc spec --bundle bundle
cat >hook.sh <<'SH'
#!/bin/sh
# Appends the state that it reads to a file named by its argument.
cat >>"$1" && echo >>"$1"
SH
chmod +x hook.sh
python3 - <<'PY'
import json, os

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "true"]
config["linux"].pop("resources", None)
hook = {"path": os.path.abspath("hook.sh"), "args": ["hook", os.path.abspath("said")]}
config["hooks"] = {point: [hook] for point in ("createRuntime", "poststart", "poststop")}
json.dump(config, open(path, "w"))
PY

cat >play.sh <<'PLAY'
# crun takes no host that has the second cgroup hierarchy beside the first one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
runtime=$1 name=findings-$$
call() { "debian/usr/$runtime" --root "$PWD/state" "$@"; }
call create --bundle bundle "$name" >container.log 2>&1 </dev/null
call state "$name" >state.json
call start "$name"
while call state "$name" | grep -q '"status": "running"'; do sleep 0.05; done
call delete "$name"
PLAY
cat >versions.js <<'JS'
const { readFileSync } = require("node:fs");
const { valid } = require("semver");
const show = (text) => {
  const { ociVersion } = JSON.parse(text);
  return `${ociVersion}${valid(ociVersion) ? "" : " (not valid)"}`;
};
const hooks = readFileSync("said", "utf8").trim().split("\n").map(show);
console.log(`hooks ${hooks.join(", ")}; state ${show(readFileSync("state.json", "utf8"))}`);
JS
# versions RUNTIME: what the hooks at three points were told, and what `state` says.
versions() {
    rm -f said
    unshare --mount bash -euo pipefail play.sh "$1" >&2
    node versions.js
}
by_runc=$(versions sbin/runc)
by_crun=$(versions bin/crun)
printf '%s: %s\n' runc "$by_runc" crun "$by_crun"
of_runc='hooks 1.0.2-dev, 1.0.2-dev, 1.0.2-dev; state 1.0.2-dev'
of_crun='hooks 1.0 (not valid), 1.0 (not valid), 1.0 (not valid); state 1.0.0'
[[ $by_runc == "$of_runc" ]] || changed "runc's versions"
[[ $by_crun == "$of_crun" ]] || changed "crun's versions"
