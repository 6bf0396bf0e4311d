#!/usr/bin/env bash
# Behaviour: of two mount options that contradict each other crun keeps both flags that are set:
#   ["ro", "rw"] is mounted read-only, ["noexec", "exec"] without exec, and so on, for a bind mount
#   too. runc and mount take the last of them.
# Versions: Debian crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2, runc 1.1.5+ds1-1+deb12u1,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification (mounts, options) has those of mount(8), by which of options
#   that conflict the last one wins.
# Seen: ro,rw of a tmpfs and of a bind mount: mount rw; runc rw; crun ro. Of noexec,exec, of
#   nosuid,suid and of nodev,dev crun has the first, mount and runc the second
# Here: what adds an option after those of an image or a template means to overrule them; under crun
#   the volume stays read-only. The shims take the last one, as docs/config-json.md says.
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
mkdir data

cat >play.py <<'PY'
import json, os, subprocess, tempfile

# crun takes no host that has the second cgroup hierarchy beside the first one.
if os.path.ismount("/sys/fs/cgroup/unified"):
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
folder = os.getcwd()
runtimes = {"runc": "debian/usr/sbin/runc", "crun": "debian/usr/bin/crun"}
kept = ("ro", "rw", "nosuid", "nodev", "noexec")


def flags(table, path):
    for line in table.splitlines():
        _, point, _, options, *_ = line.split()
        if point == path:
            return " ".join(option for option in options.split(",") if option in kept)
    raise SystemExit("not mounted")


def contained(runtime, mount):
    config = json.load(open("bundle/config.json"))
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/busybox", "cat", "/proc/mounts"]
    config["linux"].pop("resources", None)
    config["root"]["readonly"] = False
    config["mounts"] = [*config["mounts"][:1], mount]
    json.dump(config, open("bundle/config.json", "w"))
    name = f"findings-{runtime}-{os.getpid()}"
    command = [runtimes[runtime], "--root", f"{folder}/state-{runtime}", "run"]
    run = [*command, "--bundle", "bundle", name]
    return flags(subprocess.run(run, check=True, stdout=-1, text=True).stdout, "/volume")


for kind, options in [
    ("tmpfs", ["ro", "rw"]), ("tmpfs", ["rw", "ro"]), ("tmpfs", ["noexec", "exec"]),
    ("tmpfs", ["nosuid", "suid"]), ("tmpfs", ["nodev", "dev"]), ("bind", ["ro", "rw"]),
]:
    source = "tmpfs" if kind == "tmpfs" else f"{folder}/data"
    point = tempfile.mkdtemp(dir=folder)
    how = ["-t", "tmpfs"] if kind == "tmpfs" else ["--bind"]
    subprocess.run(["mount", *how, "-o", ",".join(options), source, point], check=True)
    own = flags(open("/proc/mounts").read(), point)
    mount = {"destination": "/volume", "type": kind, "source": source,
             "options": options if kind == "tmpfs" else ["bind", *options]}
    by_runc, by_crun = contained("runc", mount), contained("crun", mount)
    print(f"{kind} {','.join(options)}: mount {own}; runc {by_runc}; crun {by_crun}")
PY
said=$(unshare --mount python3 play.py)
echo "$said"
wanted=$(
    cat <<'SAID'
tmpfs ro,rw: mount rw; runc rw; crun ro
tmpfs rw,ro: mount ro; runc ro; crun ro
tmpfs noexec,exec: mount rw; runc rw; crun rw noexec
tmpfs nosuid,suid: mount rw; runc rw; crun rw nosuid
tmpfs nodev,dev: mount rw; runc rw; crun rw nodev
bind ro,rw: mount rw; runc rw; crun ro
SAID
)
[[ $said == "$wanted" ]] || changed "other options"
