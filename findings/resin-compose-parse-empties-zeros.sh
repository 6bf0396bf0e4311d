#!/usr/bin/env bash
# Behaviour: resin-compose-parse makes of the number 0 in `environment` and `labels` an empty value, of
#   a comment and a blank line in an `env_file` variables, and of a volume with `ro,z` one that can be
#   written to.
# Versions: npm resin-compose-parse 2.4.0, Node 20.
# Expected: Compose specification, environment: a map whose values may be numbers; Docker's syntax for
#   environment files: lines with `#` at their beginning are "processed as comments and ignored", and
#   "Blank lines are ignored"; Volumes, short syntax: a "comma-separated" list of access modes, of which
#   `ro` is read-only.
# Seen: ZERO: 0 becomes "", ONE: 1 becomes "1"; variables "# a comment" and "" with empty values;
#   data:/data:ro stays so, data:/other:ro,z becomes data:/other
# Here: a pod that is made of such a file has other settings than under Docker Compose, and may write
#   where it was to read.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts resin-compose-parse@2.4.0
cat >read.cjs <<'JS'
const { Readable } = require("node:stream");
const { normalize } = require("resin-compose-parse");

const file = ["# a comment", "", "LEVEL=0"].join("\n");
const web = {
    image: "web",
    environment: { ZERO: 0, ONE: 1 },
    labels: { zero: 0 },
    env_file: ["app.env"],
    volumes: ["data:/data:ro", "data:/other:ro,z"],
};

(async () => {
    const composition = { version: "2.4", services: { web }, volumes: { data: {} } };
    const read = await normalize(composition, async () => Readable.from([file]));
    for (const part of ["environment", "labels", "volumes"])
        console.log(`${part}: ${JSON.stringify(read.services.web[part])}`);
})();
JS
node read.cjs | tee seen
cmp seen - <<'SEEN' || changed "it reads other things"
environment: {"ZERO":"","ONE":"1","# a comment":"","":"","LEVEL":"0"}
labels: {"zero":""}
volumes: ["data:/data:ro","data:/other"]
SEEN
