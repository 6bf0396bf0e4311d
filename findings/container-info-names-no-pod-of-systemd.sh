#!/usr/bin/env bash
# Behaviour: container-info gives a pod whose cgroup systemd made an identifier that no pod has, with
#   `_` for `-`. With a cgroup of its own inside the container it finds neither pod nor container.
# Versions: npm container-info 1.1.0.
# Expected: the pod's `metadata.uid`, by which Kubernetes, its logs and its metrics name it. The
#   kubelet writes `_` only into slices, where `-` parts the levels (systemd.slice(5)).
# Seen: pod2c48913c-b29f-…/ID: 2c48913c-b29f-…; …-pod2c48913c_b29f_….slice/cri-containerd-ID.scope:
#   2c48913c_b29f_…; the same with /init.scope behind it: nothing
# Here: with `SystemdCgroup` the pods of the shims' containers have such slices, too; what this package
#   reports of a container does not join with what Kubernetes says of its pod.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts container-info@1.1.0
cat >pods.js <<'JS'
const { parse } = require("container-info");

const uid = "2c48913c-b29f-11e7-9350-020968147796";
const container = "0123456789abcdef".repeat(4);
const slices = "/kubepods.slice/kubepods-burstable.slice";
const slice = `${slices}/kubepods-burstable-pod${uid.replaceAll("-", "_")}.slice`;
const paths = {
  "without systemd": `/kubepods/burstable/pod${uid}/${container}`,
  "with systemd": `${slice}/cri-containerd-${container}.scope`,
  "with systemd, inside": `${slice}/cri-containerd-${container}.scope/init.scope`,
};
for (const [name, path] of Object.entries(paths)) {
  const { podId, containerId } = parse(`0::${path}\n`);
  const found = containerId === container ? "found" : containerId;
  console.log(`${name}: pod ${podId}, container ${found}`);
}
JS
said=$(node pods.js)
echo "$said"
[[ $said == 'without systemd: pod 2c48913c-b29f-11e7-9350-020968147796, container found
with systemd: pod 2c48913c_b29f_11e7_9350_020968147796, container found
with systemd, inside: pod undefined, container undefined' ]] || changed "it finds others"
