#!/usr/bin/env bash
# Behaviour: of a gzip file of several members fflate's gunzipSync, gunzip and decompressSync give
#   the first member, cut to the length of the last one: with an empty member at the end, nothing.
#   There is no error. Its stream, Gunzip, gives all of it.
# Versions: npm fflate 0.8.3, Node 20, Python 3.11.
# Expected: RFC 1952, section 2.2: a gzip file consists of a series of members, which simply
#   appear one after another; ISIZE is the length of its own member's data. gzip, Node and Python
#   read all.
# Seen: "first member" and "two": fflate "fir", "first membertwo" elsewhere; with an empty member
#   behind: "" and "first member"; one member: all alike
# Here: layers of images that can be read in part (eStargz) are a member for each file, and an
#   empty one at the end.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts fflate@0.8.3
printf 'first member' | gzip -n >one
{
    cat one
    printf two | gzip -n
} >short
{
    cat one
    gzip -n </dev/null
} >empty
{
    gzip -n </dev/null
    cat one
} >front
cat >read.js <<'JS'
const fflate = require("fflate");
const fs = require("fs");
const zlib = require("zlib");

const streamed = (data) => {
  const parts = [];
  const stream = new fflate.Gunzip((part) => parts.push(part));
  stream.push(data, true);
  return Buffer.concat(parts);
};
for (const name of ["one", "short", "empty", "front"]) {
  const data = fs.readFileSync(name);
  for (const [key, value] of [
    ["gunzipSync", fflate.gunzipSync(data)],
    ["decompressSync", fflate.decompressSync(data)],
    ["Gunzip", streamed(data)],
    ["Node", zlib.gunzipSync(data)],
  ]) {
    console.log(`${name}: ${key} "${Buffer.from(value)}"`);
  }
}
JS
seen=$(
    node read.js
    for name in one short empty front; do
        echo "$name: gzip \"$(gzip -dc <$name)\", $(python3 -c '
import gzip, sys
print("Python", repr(gzip.decompress(sys.stdin.buffer.read()).decode()))' <$name)"
    done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
one: gunzipSync "first member"
one: decompressSync "first member"
one: Gunzip "first member"
one: Node "first member"
short: gunzipSync "fir"
short: decompressSync "fir"
short: Gunzip "first membertwo"
short: Node "first membertwo"
empty: gunzipSync ""
empty: decompressSync ""
empty: Gunzip "first member"
empty: Node "first member"
front: gunzipSync ""
front: decompressSync ""
front: Gunzip "first member"
front: Node "first member"
one: gzip "first member", Python 'first member'
short: gzip "first membertwo", Python 'first membertwo'
empty: gzip "first member", Python 'first member'
front: gzip "first member", Python 'first member'
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the members otherwise"
