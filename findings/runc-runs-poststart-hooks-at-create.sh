#!/usr/bin/env bash
# Behaviour: `runc create` runs the poststart hooks, before anybody has asked for the container's
#   start and with the status `created`; `runc start` runs none. A poststop hook that fails keeps
#   the others from being run, and `runc delete` ends with 0.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1 and busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: by the OCI runtime-spec 1.0.2 (config.md, Poststart; runtime.md, Lifecycle) poststart
#   hooks run after the program was executed and before `start` returns, and after a failed poststop
#   hook the remaining ones go on.
# Seen: create: poststart created; start: program; delete: failing (status 0)
# Here: containerd creates long before it starts: who counts running guests by such a hook counts
#   those that never ran; what a second poststop hook would clean up stays.
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
mkdir -p rootfs/bin
cp debian/bin/busybox rootfs/bin/
runc=(debian/usr/sbin/runc --root "$dir/state")
name=hooks-$$

# Each hook writes its name and the status that it is told; the program writes into its own root.
cat >hook <<'SH'
#!/bin/sh
status=$(sed -E 's/.*"status": *"([a-z]*)".*/\1/')
echo "$1 $status" >>"${0%/*}/events"
test "$1" != failing
SH
chmod +x hook
python3 - "$dir/hook" >config.json <<'PY'
import json, sys


def hook(name):
    return {"path": sys.argv[1], "args": ["hook", name]}


json.dump({
    "ociVersion": "1.0.2",
    "process": {
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": [],
        "args": ["/bin/busybox", "touch", "/program"],
    },
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": type} for type in ("pid", "mount", "ipc", "uts")]},
    "hooks": {
        "poststart": [hook("poststart")],
        "poststop": [hook("failing"), hook("last")],
    },
}, sys.stdout)
PY
events() {
    cat events 2>/dev/null || true
    rm -f events
}
"${runc[@]}" create "$name" </dev/null >log 2>&1 || changed "no container: $(cat log)"
at_create=$(events)
ran_at_create=$(cd rootfs && echo pr*m)
"${runc[@]}" start "$name"
for _ in {1..100}; do
    if "${runc[@]}" state "$name" | grep -q '"status": "stopped"'; then break; fi
    sleep 0.1
done
at_start=$(events)
ran_at_start=$(cd rootfs && echo pr*m)
status=0
"${runc[@]}" delete "$name" 2>log || status=$?
at_delete=$(events)
printf '%s\n' "create: $at_create" "start: $at_start $ran_at_start" \
    "delete: $at_delete (status $status)" \
    "said: $(grep -o 'error running hook: exit.*[0-9]' log || true)"
[[ $at_create == 'poststart created' && $ran_at_create == "pr*m" ]] ||
    changed "something else runs at create"
[[ -z $at_start && $ran_at_start == program ]] || changed "something else runs at start"
[[ $at_delete == 'failing stopped' && $status == 0 ]] || changed "delete runs other hooks"
