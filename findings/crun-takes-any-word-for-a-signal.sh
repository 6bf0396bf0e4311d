#!/usr/bin/env bash
# Behaviour: `crun kill` succeeds with any word as the signal: a misspelt name sends nothing, so
#   do names that signal(7) has as synonyms (IOT, POLL), and 15x sends 15. runc refuses these, and
#   all names of real-time signals, by which systemd in a container is stopped.
# Versions: Debian crun 1.8.1-1+deb12u1 with libyajl2 2.1.0-3+deb12u2, runc 1.1.5+ds1-1+deb12u1,
#   busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification, Kill: it sends the specified signal to the container's
#   process; POSIX kill: a signal name that is not known is an error. signal(7): IOT is a synonym
#   of ABRT; kill(1) of coreutils knows RTMIN+3.
# Seen: TREM: crun 0 and no signal, runc 1; IOT: crun 0 and no signal, runc 1; 15x: crun 0 and 15,
#   runc 1; RTMIN+3: crun 37, runc 1
# Here: a hook or operator that stops a container so takes it for stopped. The shims get numbers.
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
# The container's program writes down the signals that it gets but SIGCHLD.
cat >bundle/rootfs/program <<'PROGRAM'
for signal in 1 2 3 6 10 12 15 28 29 37; do trap "echo $signal >>/got" $signal; done
: >/got
while :; do /bin/busybox sleep 0.1; done
PROGRAM
python3 - <<'PY'
import json

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "sh", "/program"]
config["root"]["readonly"] = False
config["linux"].pop("resources", None)
json.dump(config, open(path, "w"))
PY
cat >play.sh <<'PLAY'
# crun takes no host that has the second cgroup hierarchy beside the first one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
runtime=(debian/usr/"$1" --root "$PWD/state")
name=findings-$$
got=bundle/rootfs/got
rm -f $got
trap '"${runtime[@]}" delete --force "$name"' EXIT
"${runtime[@]}" create --bundle bundle "$name" </dev/null >/dev/null 2>&1
"${runtime[@]}" start "$name"
for _ in {1..50}; do
    if [[ -e $got ]]; then break; fi
    sleep 0.1
done
for signal in TERM TREM IOT POLL 15x RTMIN+3; do
    : >$got
    status=0
    "${runtime[@]}" kill "$name" $signal 2>messages || status=$?
    sleep 0.5
    signals=$(paste -sd ' ' $got)
    echo "${1#*/} kill $signal: status $status, signal ${signals:-none}"
done
PLAY
seen=$(for runtime in bin/crun sbin/runc; do
    unshare --mount bash -euo pipefail play.sh $runtime
done)
echo "$seen"
wanted=$(
    cat <<'SEEN'
crun kill TERM: status 0, signal 15
crun kill TREM: status 0, signal none
crun kill IOT: status 0, signal none
crun kill POLL: status 0, signal none
crun kill 15x: status 0, signal 15
crun kill RTMIN+3: status 0, signal 37
runc kill TERM: status 0, signal 15
runc kill TREM: status 1, signal none
runc kill IOT: status 1, signal none
runc kill POLL: status 1, signal none
runc kill 15x: status 1, signal none
runc kill RTMIN+3: status 1, signal none
SEEN
)
[[ $seen == "$wanted" ]] || changed "they take the signals otherwise"
