#!/usr/bin/env bash
# Behaviour: @stroncium/procfs cuts the path of a process's cgroup at its first colon, reads `%` in the
#   name of a program as an escape, and gives the group NaN to a process that has no groups. procfs-stats
#   gives all fields of a process with a blank in its name a place further on: its parent is "S".
# Versions: npm @stroncium/procfs 1.2.1, procfs-stats 1.0.2; Node 20.
# Expected: cgroups(7) (hierarchy-ID:controller-list:cgroup-path; the path is all that is left) and
#   proc(5) (comm is the file's name, in parentheses; Groups is a list). The kernel escapes neither.
# Seen: /pod1.slice:cri-containerd:0123 is /pod1.slice; "a%41 50%25" is "aA 50%"; no groups: [NaN];
#   procfs-stats: state "50%25)", parent "S"
# Here: containerd makes cgroups named like that where Kubernetes is set to systemd's cgroups and the
#   runtime is not: all containers of a pod have one cgroup for this package.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @stroncium/procfs@1.2.1 procfs-stats@1.0.2
cat >read.js <<'JS'
const { procfs } = require("@stroncium/procfs");
const procfsStats = require("procfs-stats");

const pid = Number(process.argv[2]);
console.log(`cgroup: ${procfs.processCgroups(pid).find(({ hierarchyId }) => hierarchyId === 0).path}`);
console.log(`name: "${procfs.processStat(pid).comm}"`);
console.log(`groups: [${procfs.processStatus(pid).groups}]`);
procfsStats(pid).stat((error, { comm, state, ppid }) => {
  console.log(`procfs-stats: name "${comm}", state "${state}", parent "${ppid}"`);
});
JS
# In a cgroup of that name, in a hierarchy that is mounted here alone.
cat >process.sh <<'SH2'
set -euo pipefail
mount -t cgroup2 none cgroups
cgroup=cgroups/pod1.slice:cri-containerd:0123
mkdir "$cgroup"
setpriv --clear-groups "./a%41 50%25" 60 &
pid=$!
trap 'kill "$pid"; wait "$pid" || true; rmdir "$cgroup"' EXIT
echo "$pid" >"$cgroup/cgroup.procs"
while [[ $(<"/proc/$pid/comm") != a* ]]; do
    sleep 0.05
done
grep '^0:' "/proc/$pid/cgroup"
cut -d ' ' -f 2-4 "/proc/$pid/stat"
node read.js "$pid"
SH2
mkdir cgroups
cp "$(command -v sleep)" 'a%41 50%25'
seen=$(unshare --mount bash process.sh)
echo "$seen"
[[ $seen == '0::/pod1.slice:cri-containerd:0123
(a%41 50%25) S
cgroup: /pod1.slice
name: "aA 50%"
groups: [NaN]
procfs-stats: name "(a%41", state "50%25)", parent "S"' ]] || changed "they read it otherwise"
