#!/usr/bin/env bash
# Behaviour: `runc delete` and `crun delete` without --force end with 0 for a container that is
#   created and not yet started: its waiting process is killed, and the container is gone. A running
#   one they refuse.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1, crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification (runtime.md, Delete): "Attempting to delete a container that
#   is not stopped MUST have no effect on the container and MUST generate an error."
# Seen: created: delete 0, then state 1 and the process is gone; running: delete 1, and state
#   "running"
# Here: the shims' Delete does the same (docs/task-api.md), since containerd knows it so; but a
#   second delete between create and start takes the container away without an error, where a
#   manager that goes by the specification expects one.
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
mkdir -p bundle/rootfs/bin
cp debian/bin/busybox bundle/rootfs/bin/
debian/usr/sbin/runc spec --bundle bundle

cat >play.py <<'PY'
import json, os, subprocess

# crun takes no host that has the second cgroup hierarchy beside the first one.
if os.path.ismount("/sys/fs/cgroup/unified"):
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
config = json.load(open("bundle/config.json"))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "sleep", "60"]
config["linux"].pop("resources", None)
json.dump(config, open("bundle/config.json", "w"))
runtimes = {"runc": "debian/usr/sbin/runc", "crun": "debian/usr/bin/crun"}


def call(runtime, *arguments):
    # Into files: the container's process keeps them open.
    command = [runtimes[runtime], "--root", f"{os.getcwd()}/state-{runtime}", *arguments]
    with open("said", "w") as said:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    return status.returncode, open("said").read()


def state(runtime, name):
    status, said = call(runtime, "state", name)
    return json.loads(said) if status == 0 else {"status": "none"}


for runtime in runtimes:
    for started in False, True:
        name = f"findings-{runtime}-{os.getpid()}"
        assert call(runtime, "create", "--bundle", "bundle", name)[0] == 0, open("said").read()
        if started:
            assert call(runtime, "start", name)[0] == 0
        before = state(runtime, name)
        status, _ = call(runtime, "delete", name)
        after = state(runtime, name)["status"]
        print(f"{runtime}, {before['status']}: delete {status}, then {after}")
        call(runtime, "delete", "--force", name)
PY
said=$(unshare --mount python3 play.py)
echo "$said"
[[ $said == 'runc, created: delete 0, then none
runc, running: delete 1, then running
crun, created: delete 0, then none
crun, running: delete 1, then running' ]] || changed "other answers"
