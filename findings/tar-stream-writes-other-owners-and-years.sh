#!/usr/bin/env bash
# Behaviour: tar-stream writes 262143 for every user and group from 262144 up, and other years for
#   times after January 2038, without an error. A good archive changes on the way through it.
# Versions: npm tar-stream 3.2.2; Python 3.11's tarfile.
# Expected: an error, or an extended header (POSIX pax) or a base-256 number, as tarfile, GNU tar and
#   Go's archive/tar write them; the field for the time holds seconds up to the year 2242.
# Seen: user 300000 as 262143, 1000680000 as 262143; 2040 as 2242, 2110 as 1974; a copy of tarfile's
#   archive has 262143 for 300000
# Here: layers of images are tar. OpenShift gives pods users from 1000000000 up; in a layer that was
#   put together with this library such a user's files belong to somebody else.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts tar-stream@3.2.2
cat >files.json <<'JSON'
{
  "below": [262143, "2037-06-01T00:00:00Z"],
  "above": [300000, "2037-06-01T00:00:00Z"],
  "openshift": [1000680000, "2037-06-01T00:00:00Z"],
  "y2040": [1000, "2040-06-01T00:00:00Z"],
  "y2110": [1000, "2110-06-01T00:00:00Z"]
}
JSON
cat >write.mjs <<'JS'
import { createReadStream, createWriteStream, readFileSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { extract, pack } from "tar-stream";
const pack1 = pack();
for (const [name, [id, time]] of Object.entries(JSON.parse(readFileSync("files.json"))))
  pack1.entry({ name, uid: id, gid: id, mtime: new Date(time) }, "text");
pack1.finalize();
await pipeline(pack1, createWriteStream("tar-stream.tar"));

// The other archive, entry by entry as it is.
const copy = pack();
const copied = pipeline(copy, createWriteStream("copy.tar"));
const entries = extract();
createReadStream("tarfile.tar").pipe(entries);
for await (const entry of entries) await pipeline(entry, copy.entry(entry.header));
copy.finalize();
await copied;
JS
cat >archive.py <<'PY'
import datetime, io, json, sys, tarfile

path = sys.argv[2]
if sys.argv[1] == "write":
    with tarfile.open(path, "w") as archive:
        for name, (id, time) in json.load(open("files.json")).items():
            member = tarfile.TarInfo(name)
            member.uid = member.gid = id
            member.mtime = int(datetime.datetime.fromisoformat(time).timestamp())
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
else:
    members = tarfile.open(path).getmembers()
    years = [1970 + member.mtime // 31556952 for member in members]
    print(*(f"{member.name}:{member.uid}:{member.gid}:{year}"
            for member, year in zip(members, years)))
PY
python3 archive.py write tarfile.tar
node write.mjs
for archive in tarfile tar-stream copy; do
    python3 archive.py read "$archive.tar" >"$archive"
    echo "$archive: $(<"$archive")"
done
[[ $(<tarfile) == "below:262143:262143:2037 above:300000:300000:2037 \
openshift:1000680000:1000680000:2037 y2040:1000:1000:2040 y2110:1000:1000:2110" ]] ||
    changed "tarfile writes something else"
[[ $(<tar-stream) == "below:262143:262143:2037 above:262143:262143:2037 \
openshift:262143:262143:2037 y2040:1000:1000:2242 y2110:1000:1000:1974" ]] ||
    changed "tar-stream writes something else"
[[ $(<copy) == *' above:262143:262143:2037 '*' y2040:1000:1000:2242 '* ]] ||
    changed "a copy has something else"
