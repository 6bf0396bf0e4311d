#!/usr/bin/env bash
# Behaviour: of two limits of one type in a container's process runc and crun take the last one
#   without a word. crun takes a working directory that is not absolute as one below the root, where
#   runc refuses it, and runc takes any version of the specification.
# Versions: Debian runc 1.1.5+ds1-1+deb12u1, crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification (config.md, process): "If rlimits contains duplicated entries
#   with same type, the runtime MUST generate an error", and of cwd: "This value MUST be an absolute
#   path."
# Seen: RLIMIT_NOFILE 200 and 100: runc 100, crun 100; cwd "bin": runc an error, crun /bin;
#   ociVersion 9.0.0: runc runs it, crun "unknown version specified"
# Here: what adds a limit to those of a template raises or lowers it, by its place in the list; a
#   bundle that crun runs the shims refuse, since its working directory is not absolute.
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
ln -s busybox bundle/rootfs/bin/sh
debian/usr/sbin/runc spec --bundle bundle
cp bundle/config.json spec.json

cat >play.py <<'PY'
import json, os, subprocess

# crun takes no host that has the second cgroup hierarchy beside the first one.
if os.path.ismount("/sys/fs/cgroup/unified"):
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
runtimes = {"runc": "debian/usr/sbin/runc", "crun": "debian/usr/bin/crun"}


def run(subject, script, version="1.0.2", **process):
    config = json.load(open("spec.json"))
    config["ociVersion"] = version
    config["linux"].pop("resources", None)
    config["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", script], **process}
    json.dump(config, open("bundle/config.json", "w"))
    for runtime, path in runtimes.items():
        command = [path, "--root", f"{os.getcwd()}/state-{runtime}", "run", "--bundle", "bundle"]
        done = subprocess.run([*command, f"findings-{runtime}-{os.getpid()}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        print(f"{subject}: {runtime} {done.returncode} {done.stdout.strip()}".strip())


limit = {"type": "RLIMIT_NOFILE"}
pair = [{**limit, "soft": number, "hard": number} for number in (200, 100)]
run("one limit", "ulimit -n", rlimits=pair[:1])
run("two limits", "ulimit -n", rlimits=pair)
run("cwd bin", "pwd", cwd="bin", rlimits=[])
run("version 9", "pwd", version="9.0.0", rlimits=[])
PY
said=$(unshare --mount python3 play.py)
echo "$said"
[[ $said == 'one limit: runc 0 200
one limit: crun 0 200
two limits: runc 0 100
two limits: crun 0 100
cwd bin: runc 1
cwd bin: crun 0 /bin
version 9: runc 0 /
version 9: crun 1' ]] || changed "other answers"
