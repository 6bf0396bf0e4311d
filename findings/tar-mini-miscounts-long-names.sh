#!/usr/bin/env bash
# Behaviour: tar-mini writes the length of an extended header's record one too small where its
#   number of digits grows with itself: of names of 91 and 92 bytes GNU tar refuses the archive, and
#   tar-stream reads the name without its last letter. What it reads has no attributes and no
#   fractions of times.
# Versions: npm tar-mini 0.2.0, tar-stream 3.2.2, GNU tar 1.34 (Debian 12), Node 20.
# Expected: POSIX (pax, "pax Header Block"): a record is "%d %s=%s\n", and the number is the length
#   of all of it, its own digits too; all its keywords belong to the file.
# Seen: names of 90 and 93 bytes: tar lists them; of 91 and 92: tar "Malformed extended header:
#   missing newline", tar-stream 90 and 91 bytes; of GNU tar's archive with a comment and a time of
#   half a second: no attributes, and the whole second
# Here: layers with names beyond ASCII or long ones have such headers; other readers refuse such a
#   layer or find other names, and file capabilities, which are such attributes, are lost.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts tar-mini@0.2.0 tar-stream@3.2.2
cat >write.js <<'JS'
const { readFileSync, writeFileSync } = require("node:fs");
const { execFileSync } = require("node:child_process");
const { createExtract, createPack } = require("tar-mini");
const tarStream = require("tar-stream");

async function pack(filename) {
  const pack = createPack();
  pack.add(Buffer.from("text"), { filename, pax: { comment: "x" } });
  pack.done();
  return Buffer.concat(await pack.receiver.toArray());
}
async function byTarStream(bytes) {
  const extract = tarStream.extract();
  extract.end(bytes);
  try {
    for await (const { header } of extract) return `${header.name.length} bytes`;
  } catch (error) {
    return error.message;
  }
}
function byTar(bytes) {
  try {
    const options = { input: bytes, encoding: "utf8", stdio: "pipe" };
    return `${execFileSync("tar", ["-tf", "-"], options).trim().length} bytes`;
  } catch (error) {
    return error.stderr.split("\n")[0];
  }
}
async function main() {
  for (const length of [90, 91, 92, 93]) {
    const bytes = await pack("n".repeat(length));
    console.log(`${length} bytes: ${byTar(bytes)}; tar-stream: ${await byTarStream(bytes)}`);
  }
  const extract = createExtract();
  extract.on("entry", (head) => {
    console.log(`of GNU tar: ${head.name}, mtime ${head.mtime}, ${JSON.stringify(head.pax.c)}`);
  });
  extract.receiver.write(readFileSync("gnu.tar"));
}
main();
JS
touch -d '2020-01-01 00:00:00.5 UTC' file
tar --format=pax --pax-option='comment:=x' -cf gnu.tar file
said=$(LC_ALL=C node write.js)
echo "$said"
wanted=$(
    cat <<'SAID'
90 bytes: 90 bytes; tar-stream: 90 bytes
91 bytes: tar: Malformed extended header: missing newline; tar-stream: 90 bytes
92 bytes: tar: Malformed extended header: missing newline; tar-stream: 91 bytes
93 bytes: 93 bytes; tar-stream: 93 bytes
of GNU tar: file, mtime 1577836800, {}
SAID
)
[[ $said == "$wanted" ]] || changed "other archives"
