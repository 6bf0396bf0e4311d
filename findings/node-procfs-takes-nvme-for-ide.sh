#!/usr/bin/env bash
# Behaviour: @stroncium/procfs keeps 8 of the 12 bits of a device's major number: 259, which NVMe disks
#   and partitions beyond the 15th have, is 3, the old IDE disks'. So the number that it gives for a
#   mount or a disk is not the one that `stat` has for the same device.
# Versions: npm @stroncium/procfs 1.2.1, Node 20.
# Expected: the kernel's include/linux/kdev_t.h (new_encode_dev: a major number of 12 bits), and the
#   package's API.md ("value of st_dev for files on this filesystem"); glibc and `stat` have 12 bits.
# Seen: 8:1, 8:300 and 254:0 as Node's stat has them; 259:2: 770, stat has 66306; of 66306 the major
#   number is 3; 511:1: 65281, stat has 130817
# Here: which file system and which disk a container uses is looked up by these numbers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @stroncium/procfs@1.2.1
cat >devices.js <<'JS'
const { statSync } = require("node:fs");
const { procfs } = require("@stroncium/procfs");

for (const name of process.argv.slice(2)) {
  const [major, minor] = name.split(":").map(Number);
  const { rdev } = statSync(name);
  const made = procfs.devIdFromMajorMinor(major, minor);
  const [readMajor, readMinor] = [procfs.devIdGetMajor(rdev), procfs.devIdGetMinor(rdev)];
  console.log(`${name}: ${made}, by stat ${rdev}, which is read as ${readMajor}:${readMinor}`);
}
JS
devices=(8:1 8:300 254:0 259:2 511:1)
for device in "${devices[@]}"; do
    mknod "$device" b "${device%:*}" "${device#*:}"
done
seen=$(node devices.js "${devices[@]}")
echo "$seen"
[[ $seen == '8:1: 2049, by stat 2049, which is read as 8:1
8:300: 1050668, by stat 1050668, which is read as 8:300
254:0: 65024, by stat 65024, which is read as 254:0
259:2: 770, by stat 66306, which is read as 3:2
511:1: 65281, by stat 130817, which is read as 255:1' ]] || changed "it has other numbers"
