#!/usr/bin/env bash
# Behaviour: @adobe/cgroup-metrics gives the processor time of cpuacct.stat, which is in hundredths
#   of a second, as nanoseconds: half a processor for ten seconds is 0.000005 percent. The time of
#   cpuacct.usage is right.
# Versions: npm @adobe/cgroup-metrics 3.0.6, Node 20.
# Expected: the kernel's cpuacct.rst: "user and system are in USER_HZ unit". The README says "CPU
#   time (in nanoseconds) spent by tasks of the cgroup in user mode", and computes percentages of
#   both.
# Seen: 500 and 100 ticks within ten seconds (50 and 10 percent): 500 ns, 100 ns, 0.000005 percent,
#   0.000001 percent; 6000000000 ns of cpuacct.usage: 60 percent
# Here: the shims' containers have such cgroups where the host has the first version; a container
#   that is busy is shown as idle.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @adobe/cgroup-metrics@3.0.6
cat >measure.js <<'JS'
const { mkdirSync, writeFileSync } = require("node:fs");
const cgroup = require("@adobe/cgroup-metrics");

const folder = "/sys/fs/cgroup/cpuacct";
mkdirSync(folder, { recursive: true });
function measure(now, user, system) {
  Date.now = () => now;
  writeFileSync(`${folder}/cpuacct.stat`, `user ${user}\nsystem ${system}\n`);
  writeFileSync(`${folder}/cpuacct.usage`, `${(user + system) * 1e7}\n`);
  return { ...cgroup.cpu.stat(), usage: cgroup.cpu.usage() };
}
const first = measure(1e12, 1000, 200);
const second = measure(1e12 + 10000, 1500, 300);
for (const name of ["user", "system", "usage"]) {
  const [from, to] = [first, second].map((all) => all[name].cpuNanosSinceContainerStart);
  const percent = cgroup.cpu.calculateUsage(first[name], second[name]);
  console.log(`${name}: ${to - from} ns in 10 s, ${percent.toFixed(6)} percent`);
}
JS
said=$(unshare --mount bash -c 'mount -t tmpfs none /sys/fs/cgroup && exec node measure.js')
echo "$said"
[[ $said == 'user: 500 ns in 10 s, 0.000005 percent
system: 100 ns in 10 s, 0.000001 percent
usage: 6000000000 ns in 10 s, 60.000000 percent' ]] || changed "it gives other times"
